"""What is known about mail domains and local parts."""

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

# Top-level domains with which a typo target's name is a slip of the finger, not the provider's branch in a country.
SLIPPED_TOP_LEVELS: frozenset[str] = frozenset({"co", "cm", "om"})

FREE_DOMAINS: frozenset[str] = words(
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

DISPOSABLE_DOMAINS: frozenset[str] = words(
    """
    10minutemail.com 10minutemail.net 20minutemail.com 33mail.com anonbox.net anonymbox.com burnermail.io
    byom.de discard.email discardmail.com discardmail.de disposablemail.com dispostable.com einrot.com
    emailondeck.com fakeinbox.com fakemail.net fakemailgenerator.com filzmail.com generator.email getairmail.com
    getnada.com gmial.com grr.la guerrillamail.biz guerrillamail.com guerrillamail.de guerrillamail.info
    guerrillamail.net guerrillamail.org guerrillamailblock.com harakirimail.com hotmial.com inboxbear.com
    inboxkitten.com incognitomail.org jetable.org kasmail.com linshiyouxiang.net luxusmail.org mail-temp.com
    mailcatch.com maildrop.cc mailexpire.com mailforspam.com mailinator.com mailinator.net mailinator.org
    mailinator2.com mailnesia.com mailnull.com mailpoof.com mailsac.com mailtemp.net meltmail.com mintemail.com
    minuteinbox.com moakt.com mohmal.com mt2015.com mytemp.email mytrashmail.com nada.email nowmymail.com
    onetimemail.org sharklasers.com shitmail.me sogetthis.com spam4.me spambog.com spambox.us spamex.com
    spamgourmet.com spamherelots.com spamhole.com temp-mail.io temp-mail.org tempail.com tempinbox.com
    tempmail.com tempmail.de tempmail.net tempmailaddress.com tempmailo.com temporaryinbox.com tempr.email
    throwaway.email throwawaymail.com tmail.ws tmpmail.net tmpmail.org trash-mail.com trashmail.at trashmail.com
    trashmail.de trashmail.me trashmail.net trbvm.com wegwerfemail.de wegwerfmail.de wegwerfmail.net
    wegwerfmail.org yopmail.com yopmail.fr yopmail.net zetmail.com
    """
)

# Mailboxes of an office rather than of a person.
ROLE_LOCAL_PARTS: frozenset[str] = words(
    """
    abuse accounting accounts admin administration administrator anfrage billing booking bookings buchhaltung
    bureau careers compliance contact contacto contacts contactus customercare customerservice datenschutz dev
    direction dpo enquiries enquiry events feedback finance frontdesk ftp hello help helpdesk hola hostmaster hr
    info infos inquiries inquiry investors invoices it jobs kontakt legal list-request mail mailer-daemon
    marketing media moderator news newsletter no-reply nobody noc noreply office orders ordini post postmaster
    pr press presse privacy purchasing reception recruiting recruitment registrar reply returns root sales
    secretary security service service-client servicedesk shop staff subscribe support sysadmin team tech
    undisclosed-recipients unsubscribe usenet uucp vendas ventas verkauf vertrieb webmaster welcome www
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
