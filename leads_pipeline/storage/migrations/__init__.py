"""Alembic's environment and the versions of the schema. ``storage.migrate`` applies them.

Add a change of the schema as a file in ``versions``, and to ``storage.schema``; a test compares the two.
"""
