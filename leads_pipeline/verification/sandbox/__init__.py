"""Providers of verification and a DNS server on this machine, with the real ones' shapes, limits, oddities and bills.

One module per vendor (``zerobounce`` …) says what that vendor answers; ``running`` starts one in a thread, ``dns`` the
DNS server. ``domains`` and ``fates`` are the rules by which a domain, an address or a number decides its verdict.
docs/sandbox.md says what is faithful and what is not known.
"""
