"""What every sandbox shares: serving, faults on demand, counts, its control side and a client for it.

Nothing in here knows a vendor. ``crm.sandbox`` plays a CRM, ``verification.sandbox`` providers of verification and DNS.
"""
