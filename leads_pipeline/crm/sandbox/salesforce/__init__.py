"""What Salesforce answers: leads and contacts, collections, single upserts, queries, limits and Bulk API 2.0.

From documentation and recorded answers unless a docstring says that something is uncertain; docs/sandbox.md lists that.
"""
