"""A local CRM with a vendor's real shapes, limits and failures.

``app`` is the web application, ``running`` starts it in a thread for tests and the demo, ``client`` talks to the
control side of a sandbox that runs. What a vendor answers stands in a package of its own (``hubspot``), what every
sandbox shares in ``leads_pipeline.sandbox``. docs/sandbox.md says what is faithful and what is not known.
"""
