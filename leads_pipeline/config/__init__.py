"""``leads.yaml`` and the environment, read once, validated whole, frozen.

The only package that reads the environment. A door (CLI, capture, a Dagster code location) calls ``load_settings`` and
passes values down. Secrets stand in the file as ``{env: NAME}`` only and are resolved when they are needed.

Environment: ``LEADS_CONFIG`` (path of the file), ``LEADS_DATABASE_URL`` (a PostgreSQL to use instead of the embedded
one), ``LEADS_LOOKUP_DATABASE_URL`` (the login with which the HTTP door reads contacts), and the names that the file
refers to.

Add a setting to the module of its part, such as ``destinations``; docs/configuration.md follows from it
(``make docs``). Others import from here, not from the modules.
"""

from leads_pipeline.config.alerts import AlertChannel, AlertSettings
from leads_pipeline.config.analytics import AnalyticsSettings, LeadCost
from leads_pipeline.config.base import LaneName, Model, SecretRef
from leads_pipeline.config.delivery import DeliverySettings, RetrySettings
from leads_pipeline.config.destinations import (
    DELIVERABLE_FIELDS,
    FILE_FIELDS,
    HUBSPOT_MAPPING,
    MANY_RECORDS,
    OWN_MAPPING,
    ZOHO_MAPPING,
    Destination,
    DestinationSettings,
    FileSettings,
    HubSpotSettings,
    RuleSettings,
    SalesforceSettings,
    SqlSettings,
    WebhookSettings,
    ZohoSettings,
)
from leads_pipeline.config.environment import (
    DATABASE_URL_VARIABLE,
    LOOKUP_DATABASE_URL_VARIABLE,
    ServiceManager,
    database_url,
    inherited_environment,
    lookup_database_url,
    project_file,
    service_manager,
)
from leads_pipeline.config.limits import DailyLimit, EndpointClassLimits, RequestLimits, WindowLimit
from leads_pipeline.config.loading import CONFIG_VARIABLE, config_path, json_schema, load_settings, parse_settings
from leads_pipeline.config.matching import MatchingSettings, MatchRuleSettings
from leads_pipeline.config.measure_names import MEASURE_NAMES, SHARES, ZERO_IF_UNNAMED
from leads_pipeline.config.objectives import ObjectiveSettings, SloSettings, span_in_words
from leads_pipeline.config.policies import ACTION_SCOPES, PolicySettings, ThenSettings, WhenSettings
from leads_pipeline.config.settings import (
    DEFAULT_CONFIG_NAME,
    BoundsSettings,
    BufferSettings,
    CaptureSettings,
    LookupSettings,
    PipelineSettings,
    RedisSettings,
    RetentionSettings,
    Settings,
    TenantSettings,
)
from leads_pipeline.config.sources import (
    LEAD_FIELDS,
    SIGNED_KINDS,
    ConsentMappingSettings,
    FieldMappingSettings,
    InRequestSettings,
    KeyRate,
    LaneRule,
    SourceKind,
    SourceSettings,
    Transform,
)
from leads_pipeline.config.survivorship import SurvivorshipSettings
from leads_pipeline.config.validation import OwnDomains, OwnLocalParts, ValidationSettings
from leads_pipeline.config.verification import (
    VENDOR_BATCH_SIZES,
    VENDOR_LOOKUPS,
    BreakerSettings,
    BudgetSettings,
    Condition,
    MxSettings,
    ProviderSettings,
    RiskSettings,
    TierSettings,
    TriageRule,
    ValueRule,
    VerdictCacheSettings,
    VerificationSettings,
)

__all__ = [
    "ACTION_SCOPES",
    "CONFIG_VARIABLE",
    "DATABASE_URL_VARIABLE",
    "DEFAULT_CONFIG_NAME",
    "DELIVERABLE_FIELDS",
    "FILE_FIELDS",
    "HUBSPOT_MAPPING",
    "LEAD_FIELDS",
    "LOOKUP_DATABASE_URL_VARIABLE",
    "MANY_RECORDS",
    "MEASURE_NAMES",
    "OWN_MAPPING",
    "SHARES",
    "SIGNED_KINDS",
    "VENDOR_BATCH_SIZES",
    "VENDOR_LOOKUPS",
    "ZERO_IF_UNNAMED",
    "ZOHO_MAPPING",
    "AlertChannel",
    "AlertSettings",
    "AnalyticsSettings",
    "BoundsSettings",
    "BreakerSettings",
    "BudgetSettings",
    "BufferSettings",
    "CaptureSettings",
    "Condition",
    "ConsentMappingSettings",
    "DailyLimit",
    "DeliverySettings",
    "Destination",
    "DestinationSettings",
    "EndpointClassLimits",
    "FieldMappingSettings",
    "FileSettings",
    "HubSpotSettings",
    "InRequestSettings",
    "KeyRate",
    "LaneName",
    "LaneRule",
    "LeadCost",
    "LookupSettings",
    "MatchRuleSettings",
    "MatchingSettings",
    "Model",
    "MxSettings",
    "ObjectiveSettings",
    "OwnDomains",
    "OwnLocalParts",
    "PipelineSettings",
    "PolicySettings",
    "ProviderSettings",
    "RedisSettings",
    "RequestLimits",
    "RetentionSettings",
    "RetrySettings",
    "RiskSettings",
    "RuleSettings",
    "SalesforceSettings",
    "SecretRef",
    "ServiceManager",
    "Settings",
    "SloSettings",
    "SourceKind",
    "SourceSettings",
    "SqlSettings",
    "SurvivorshipSettings",
    "TenantSettings",
    "ThenSettings",
    "TierSettings",
    "Transform",
    "TriageRule",
    "ValidationSettings",
    "ValueRule",
    "VerdictCacheSettings",
    "VerificationSettings",
    "WebhookSettings",
    "WhenSettings",
    "WindowLimit",
    "ZohoSettings",
    "config_path",
    "database_url",
    "inherited_environment",
    "json_schema",
    "load_settings",
    "lookup_database_url",
    "parse_settings",
    "project_file",
    "service_manager",
    "span_in_words",
]
