"""The canonical fields of a lead: one list, from the HTTP door to the mapping of a CRM.

Add a field here and in ``storage.schema``; a test says where else it must appear. Keep out: how a field is checked
(``domain.validation``) and where it is stored.
"""

from dataclasses import dataclass
from enum import StrEnum


class FieldKind(StrEnum):
    """What the field's normaliser is."""

    EMAIL = "email"
    PHONE = "phone"
    NAME = "name"
    COMPANY = "company"
    DATE = "date"
    PLACE = "place"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class CanonicalField:
    """One field. ``aliases`` are column names of files and forms that mean it, lower case, letters and digits only."""

    name: str
    kind: FieldKind
    max_length: int
    personal: bool
    title: str
    aliases: tuple[str, ...] = ()


_F = CanonicalField
CANONICAL_FIELDS: tuple[CanonicalField, ...] = (
    _F("email", FieldKind.EMAIL, 320, True, "E-mail address",
       ("emailaddress", "mail", "workemail", "businessemail", "emailwork", "contactemail")),
    _F("phone", FieldKind.PHONE, 40, True, "Phone number",
       ("phonenumber", "telephone", "tel", "mobile", "mobilephone", "cell", "cellphone", "workphone", "contactphone")),
    _F("first_name", FieldKind.NAME, 100, True, "Given name",
       ("firstname", "fname", "givenname", "forename", "namefirst", "primarynamefirst")),
    _F("last_name", FieldKind.NAME, 100, True, "Family name",
       ("lastname", "lname", "surname", "familyname", "namelast", "primarynamelast")),
    _F("full_name", FieldKind.NAME, 200, True, "Whole name, when it comes in one field",
       ("fullname", "name", "contactname", "yourname", "personname", "firstandsurname", "namefull", "primarynamefull")),
    _F("company", FieldKind.COMPANY, 255, True, "Company",
       ("companyname", "organization", "organisation", "org", "employer", "account", "accountname", "business",
        "nameorg")),
    _F("job_title", FieldKind.TEXT, 200, True, "Job title",
       ("jobtitle", "title", "position", "role", "occupation", "jobrole")),
    _F("date_of_birth", FieldKind.DATE, 40, True, "Date of birth",
       ("dateofbirth", "dob", "birthdate", "birthday", "birth")),
    _F("address", FieldKind.PLACE, 300, True, "Street and number",
       ("streetaddress", "street", "address1", "addressline1", "addrline1", "addressfull", "addrfull", "homeaddress")),
    _F("city", FieldKind.PLACE, 120, True, "City", ("town", "locality", "addrcity", "birthplace")),
    _F("state", FieldKind.PLACE, 120, True, "State or region", ("region", "province", "county", "addrstate")),
    _F("postcode", FieldKind.PLACE, 20, True, "Postcode",
       ("postalcode", "zip", "zipcode", "addrpostalcode", "postcodefake")),
    _F("country", FieldKind.PLACE, 80, False, "Country, a name or an ISO 3166 code",
       ("countrycode", "countryname", "nation", "addrcountry")),
    _F("external_id", FieldKind.TEXT, 200, True, "The sender's own id of the person or submission",
       ("externalid", "crmid", "leadid", "contactid")),
    _F("message", FieldKind.TEXT, 10_000, True, "What the person wrote",
       ("comment", "comments", "notes", "enquiry", "inquiry", "yourmessage")),
    _F("lead_source", FieldKind.TEXT, 200, False, "Where the sender says the lead came from",
       ("leadsource", "originalsource", "sourcename", "source", "channel")),
    _F("campaign", FieldKind.TEXT, 200, False, "Campaign", ("campaignname", "utmcampaign", "campaignid")),
    _F("utm_source", FieldKind.TEXT, 200, False, "UTM source", ("utmsource",)),
    _F("utm_medium", FieldKind.TEXT, 200, False, "UTM medium", ("utmmedium", "medium")),
    _F("landing_page", FieldKind.TEXT, 2_000, False, "Page of the form", ("landingpage", "pageurl", "pageuri", "url")),
)  # fmt: skip

FIELD_NAMES: tuple[str, ...] = tuple(field.name for field in CANONICAL_FIELDS)
FIELDS_BY_NAME: dict[str, CanonicalField] = {field.name: field for field in CANONICAL_FIELDS}
