"""Who runs the mail of a domain, told by the names of its MX hosts. Own compilation from the providers' set-up guides.

Add a line when a provider's name appears often under ``other`` hosts; the longest suffix that fits decides.
"""

from collections.abc import Iterable

# The end of an MX host's name → what we call its provider.
MAIL_HOSTS: dict[str, str] = {
    "google.com": "google",
    "googlemail.com": "google",
    "outlook.com": "microsoft",
    "mx.microsoft": "microsoft",
    "yahoodns.net": "yahoo",
    "zoho.com": "zoho",
    "zoho.eu": "zoho",
    "zoho.in": "zoho",
    "zoho.com.au": "zoho",
    "zohomail.com": "zoho",
    "protonmail.ch": "proton",
    "mail.icloud.com": "apple",
    "messagingengine.com": "fastmail",
    "mimecast.com": "mimecast",
    "pphosted.com": "proofpoint",
    "ppe-hosted.com": "proofpoint",
    "barracudanetworks.com": "barracuda",
    "iphmx.com": "cisco",
    "messagelabs.com": "symantec",
    "amazonaws.com": "amazon",
    "mx.cloudflare.net": "cloudflare",
    "emailsrvr.com": "rackspace",
    "secureserver.net": "godaddy",
    "privateemail.com": "namecheap",
    "titan.email": "titan",
    "hostinger.com": "hostinger",
    "migadu.com": "migadu",
    "ovh.net": "ovh",
    "gandi.net": "gandi",
    "kundenserver.de": "ionos",
    "ionos.com": "ionos",
    "1and1.com": "ionos",
    "strato.de": "strato",
    "gmx.net": "gmx",
    "web.de": "gmx",
    "mail.ru": "mail_ru",
    "yandex.net": "yandex",
    "yandex.ru": "yandex",
    "qq.com": "tencent",
    "163.com": "netease",
    "netease.com": "netease",
    "improvmx.com": "improvmx",
    "mailgun.org": "mailgun",
}


def mail_provider(hosts: Iterable[str]) -> str | None:
    """The provider of the first host that is known; ``hosts`` (lower case, without the last dot) best first."""
    for host in hosts:
        labels = host.split(".")
        for start in range(len(labels)):
            found = MAIL_HOSTS.get(".".join(labels[start:]))
            if found is not None:
                return found
    return None
