"""Identity: what persons decided about leads, models as data, decisions that can be taken back."""

from hashlib import blake2b

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    for name in ("state_key", "job_title_key", "external_id_key", "phone_kind"):
        op.add_column("match_records", sa.Column(name, sa.Text(), nullable=True))
    for name in ("email_verified", "role_mailbox"):
        op.add_column("match_records", sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("merge_log", sa.Column("number", sa.BigInteger(), sa.Identity(), nullable=False))
    op.add_column("merge_log", sa.Column("inverse", JSONB(), server_default="{}", nullable=False))
    op.add_column("merge_log", sa.Column("undoes", sa.UUID(), nullable=True))
    op.add_column("merge_log", sa.Column("reason", sa.Text(), nullable=True))
    for name in ("compared_lead_id", "compared_with_lead_id"):
        op.add_column("merge_log", sa.Column(name, sa.UUID(), nullable=True))
    for name in ("review_weight", "merge_weight"):
        op.add_column("merge_log", sa.Column(name, sa.Double(), nullable=True))
        op.add_column("match_reviews", sa.Column(name, sa.Double(), nullable=True))
    op.create_index("uq_merge_log_undoes", "merge_log", ["undoes"], unique=True, postgresql_where=sa.text("undoes is not null"))
    op.add_column("match_reviews", sa.Column("cause", sa.Text(), server_default="grey", nullable=False))
    op.add_column("match_reviews", sa.Column("actor", sa.Text(), server_default="", nullable=False))
    op.add_column("match_reviews", sa.Column("reason", sa.Text(), nullable=True))
    op.create_index("ix_match_reviews_open", "match_reviews", ["tenant", "match_weight"], postgresql_where=sa.text("state = 'open'"))
    op.create_table(
        "identity_links",
        sa.Column("link_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("merge_id", sa.UUID(), nullable=True),
        sa.Column("made_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("withdrawn_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("withdrawn_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("link_id", name="pk_identity_links"),
    )
    op.create_index("ix_identity_links_tenant", "identity_links", ["tenant"], postgresql_where=sa.text("withdrawn_at is null"))
    op.create_table(
        "identity_link_leads",
        sa.Column("link_id", sa.UUID(), nullable=False),
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("side", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("link_id", "lead_id", name="pk_identity_link_leads"),
    )
    op.create_index("ix_identity_link_leads_lead_id", "identity_link_leads", ["lead_id"])
    op.create_table(
        "match_models",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("parameters", JSONB(), nullable=False),
        sa.Column("trained", JSONB(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("trained_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "version", name="pk_match_models"),
    )
    op.create_table(
        "match_model_activations",
        sa.Column("activation_id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("undoes", sa.BigInteger(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("activated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("activation_id", name="pk_match_model_activations"),
    )
    op.create_index("ix_match_model_activations_tenant", "match_model_activations", ["tenant", "activation_id"])
    op.add_column("golden_contacts", sa.Column("awaited_email_key", sa.Text(), nullable=True))
    op.create_index(
        "ix_golden_contacts_awaited_email_key",
        "golden_contacts",
        ["tenant", "awaited_email_key", "contact_id"],
        postgresql_where=sa.text("awaited_email_key is not null"),
    )
    # Whoever had to do without an address awaits it from now on.
    op.execute(
        """
        update golden_contacts g set awaited_email_key = v.email_key
        from validated_leads v
        where g.email is not null and g.email_key is null and v.tenant = g.tenant and v.email = g.email
            and v.lead_id = cast(g.provenance -> 'email' ->> 'lead_id' as uuid)
        """
    )
    op.drop_index("ix_match_records_email_key", "match_records")
    for key in ("email_key", "phone_key"):
        op.create_index(
            f"ix_match_records_{key}", "match_records", [key, "tenant"], postgresql_where=sa.text(f"{key} is not null")
        )
    op.create_index("ix_deduped_leads_tenant_lead_id", "deduped_leads", ["tenant", "lead_id"])
    op.add_column("identity_sizes", sa.Column("index_version", sa.Integer(), server_default="0", nullable=False))
    op.add_column("identity_sizes", sa.Column("reindexing_version", sa.Integer(), nullable=True))
    op.add_column("identity_sizes", sa.Column("reindexed_through", sa.UUID(), nullable=True))
    op.add_column("api_keys", sa.Column("scope", sa.Text(), server_default="post", nullable=False))
    op.alter_column("api_keys", "source", nullable=True)
    _narrow_match_keys()
    _narrow_term_frequencies()


def _narrow_match_keys() -> None:
    """The tenant goes into the hash, the kind goes, and a record holds its own keys."""
    op.rename_table("match_keys", "wide_match_keys")
    op.execute("alter index pk_match_keys rename to pk_wide_match_keys")
    op.create_table(
        "match_keys",
        sa.Column("key_hash", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lead_id", sa.UUID(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key_hash", "lead_id", name="pk_match_keys"),
    )
    connection = op.get_bind()
    for (tenant,) in connection.execute(sa.text("select distinct tenant from wide_match_keys")).all():
        salt = int.from_bytes(blake2b(str(tenant).encode(), digest_size=8).digest(), "big", signed=True)
        narrow = """
            insert into match_keys (key_hash, lead_id, tenant)
            select key_hash # cast(:salt as bigint), lead_id, tenant from wide_match_keys where tenant = :tenant
        """
        connection.execute(sa.text(narrow), {"salt": salt, "tenant": tenant})
    op.drop_table("wide_match_keys")
    op.add_column("match_records", sa.Column("key_hashes", ARRAY(sa.BigInteger()), server_default="{}", nullable=False))
    op.execute(
        """
        update match_records m set key_hashes = k.hashes
        from (select lead_id, array_agg(key_hash) as hashes from match_keys group by lead_id) k
        where k.lead_id = m.lead_id
        """
    )


def _narrow_term_frequencies() -> None:
    """A hash in place of tenant, field and value."""
    op.rename_table("term_frequencies", "wide_term_frequencies")
    op.execute("alter index pk_term_frequencies rename to pk_wide_term_frequencies")
    op.create_table(
        "term_frequencies",
        sa.Column("term_hash", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("occurrences", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("term_hash", name="pk_term_frequencies"),
        postgresql_with={"fillfactor": 80},
    )
    op.execute(
        """
        insert into term_frequencies (term_hash, occurrences, tenant)
        select cast(cast('x' || left(md5(concat_ws(chr(31), tenant, field, term)), 16) as bit(64)) as bigint),
            occurrences, tenant
        from wide_term_frequencies
        """
    )
    op.drop_table("wide_term_frequencies")
