"""Countries by code and by the names that forms and people use; states and provinces of two of them.

One line a country: ISO 3166 alpha-2, alpha-3, then names divided by ``;``. Names are compared without case, accents and
punctuation.
"""

from leads_pipeline.domain.text import letters_key

_COUNTRIES = """
AD AND Andorra
AE ARE United Arab Emirates; UAE; Emirates
AF AFG Afghanistan
AG ATG Antigua and Barbuda
AI AIA Anguilla
AL ALB Albania
AM ARM Armenia
AO AGO Angola
AQ ATA Antarctica
AR ARG Argentina
AS ASM American Samoa
AT AUT Austria; Österreich; Oesterreich; Autriche
AU AUS Australia
AW ABW Aruba
AX ALA Åland Islands; Aland
AZ AZE Azerbaijan
BA BIH Bosnia and Herzegovina; Bosnia
BB BRB Barbados
BD BGD Bangladesh
BE BEL Belgium; Belgique; België; Belgien
BF BFA Burkina Faso
BG BGR Bulgaria
BH BHR Bahrain
BI BDI Burundi
BJ BEN Benin
BL BLM Saint Barthélemy
BM BMU Bermuda
BN BRN Brunei; Brunei Darussalam
BO BOL Bolivia; Plurinational State of Bolivia
BQ BES Caribbean Netherlands; Bonaire, Sint Eustatius and Saba
BR BRA Brazil; Brasil
BS BHS Bahamas; The Bahamas
BT BTN Bhutan
BV BVT Bouvet Island
BW BWA Botswana
BY BLR Belarus
BZ BLZ Belize
CA CAN Canada
CC CCK Cocos Islands; Cocos (Keeling) Islands
CD COD Democratic Republic of the Congo; DR Congo; DRC; Congo-Kinshasa; Congo, Democratic Republic of the
CF CAF Central African Republic
CG COG Congo; Republic of the Congo; Congo-Brazzaville
CH CHE Switzerland; Schweiz; Suisse; Svizzera
CI CIV Côte d'Ivoire; Ivory Coast
CK COK Cook Islands
CL CHL Chile
CM CMR Cameroon
CN CHN China; People's Republic of China; PRC
CO COL Colombia
CR CRI Costa Rica
CU CUB Cuba
CV CPV Cabo Verde; Cape Verde
CW CUW Curaçao
CX CXR Christmas Island
CY CYP Cyprus
CZ CZE Czechia; Czech Republic; Česko
DE DEU Germany; Deutschland; Allemagne; Federal Republic of Germany
DJ DJI Djibouti
DK DNK Denmark; Danmark
DM DMA Dominica
DO DOM Dominican Republic
DZ DZA Algeria
EC ECU Ecuador
EE EST Estonia; Eesti
EG EGY Egypt
EH ESH Western Sahara
ER ERI Eritrea
ES ESP Spain; España; Spanien; Espagne
ET ETH Ethiopia
FI FIN Finland; Suomi
FJ FJI Fiji
FK FLK Falkland Islands; Falkland Islands (Malvinas)
FM FSM Micronesia; Federated States of Micronesia
FO FRO Faroe Islands
FR FRA France; Frankreich
GA GAB Gabon
GB GBR United Kingdom; UK; Great Britain; Britain; England; Scotland; Wales; Northern Ireland
GD GRD Grenada
GE GEO Georgia
GF GUF French Guiana
GG GGY Guernsey
GH GHA Ghana
GI GIB Gibraltar
GL GRL Greenland
GM GMB Gambia; The Gambia
GN GIN Guinea
GP GLP Guadeloupe
GQ GNQ Equatorial Guinea
GR GRC Greece; Hellas
GS SGS South Georgia and the South Sandwich Islands; South Georgia
GT GTM Guatemala
GU GUM Guam
GW GNB Guinea-Bissau
GY GUY Guyana
HK HKG Hong Kong; Hong Kong SAR
HM HMD Heard Island and McDonald Islands
HN HND Honduras
HR HRV Croatia; Hrvatska
HT HTI Haiti
HU HUN Hungary; Magyarország
ID IDN Indonesia
IE IRL Ireland; Republic of Ireland; Éire
IL ISR Israel
IM IMN Isle of Man
IN IND India; Bharat
IO IOT British Indian Ocean Territory
IQ IRQ Iraq
IR IRN Iran; Islamic Republic of Iran
IS ISL Iceland; Ísland
IT ITA Italy; Italia; Italien; Italie
JE JEY Jersey
JM JAM Jamaica
JO JOR Jordan
JP JPN Japan; Nippon
KE KEN Kenya
KG KGZ Kyrgyzstan
KH KHM Cambodia
KI KIR Kiribati
KM COM Comoros
KN KNA Saint Kitts and Nevis
KP PRK North Korea; Democratic People's Republic of Korea
KR KOR South Korea; Korea; Republic of Korea
KW KWT Kuwait
KY CYM Cayman Islands
KZ KAZ Kazakhstan
LA LAO Laos; Lao People's Democratic Republic
LB LBN Lebanon
LC LCA Saint Lucia
LI LIE Liechtenstein
LK LKA Sri Lanka
LR LBR Liberia
LS LSO Lesotho
LT LTU Lithuania; Lietuva
LU LUX Luxembourg; Luxemburg
LV LVA Latvia; Latvija
LY LBY Libya
MA MAR Morocco; Maroc
MC MCO Monaco
MD MDA Moldova; Republic of Moldova
ME MNE Montenegro; Crna Gora
MF MAF Saint Martin
MG MDG Madagascar
MH MHL Marshall Islands
MK MKD North Macedonia; Macedonia
ML MLI Mali
MM MMR Myanmar; Burma
MN MNG Mongolia
MO MAC Macao; Macau
MP MNP Northern Mariana Islands
MQ MTQ Martinique
MR MRT Mauritania
MS MSR Montserrat
MT MLT Malta
MU MUS Mauritius
MV MDV Maldives
MW MWI Malawi
MX MEX Mexico; México
MY MYS Malaysia
MZ MOZ Mozambique
NA NAM Namibia
NC NCL New Caledonia
NE NER Niger
NF NFK Norfolk Island
NG NGA Nigeria
NI NIC Nicaragua
NL NLD Netherlands; The Netherlands; Nederland; Holland; Niederlande
NO NOR Norway; Norge
NP NPL Nepal
NR NRU Nauru
NU NIU Niue
NZ NZL New Zealand; Aotearoa
OM OMN Oman
PA PAN Panama
PE PER Peru; Perú
PF PYF French Polynesia
PG PNG Papua New Guinea
PH PHL Philippines; The Philippines
PK PAK Pakistan
PL POL Poland; Polska; Polen
PM SPM Saint Pierre and Miquelon
PN PCN Pitcairn; Pitcairn Islands
PR PRI Puerto Rico
PS PSE Palestine; State of Palestine; Palestinian Territories
PT PRT Portugal
PW PLW Palau
PY PRY Paraguay
QA QAT Qatar
RE REU Réunion
RO ROU Romania; România
RS SRB Serbia; Srbija
RU RUS Russia; Russian Federation
RW RWA Rwanda
SA SAU Saudi Arabia; KSA
SB SLB Solomon Islands
SC SYC Seychelles
SD SDN Sudan
SE SWE Sweden; Sverige; Schweden
SG SGP Singapore
SH SHN Saint Helena; Saint Helena, Ascension and Tristan da Cunha
SI SVN Slovenia; Slovenija
SJ SJM Svalbard and Jan Mayen
SK SVK Slovakia; Slovensko
SL SLE Sierra Leone
SM SMR San Marino
SN SEN Senegal
SO SOM Somalia
SR SUR Suriname
SS SSD South Sudan
ST STP São Tomé and Príncipe
SV SLV El Salvador
SX SXM Sint Maarten
SY SYR Syria; Syrian Arab Republic
SZ SWZ Eswatini; Swaziland
TC TCA Turks and Caicos Islands
TD TCD Chad
TF ATF French Southern Territories
TG TGO Togo
TH THA Thailand
TJ TJK Tajikistan
TK TKL Tokelau
TL TLS Timor-Leste; East Timor
TM TKM Turkmenistan
TN TUN Tunisia
TO TON Tonga
TR TUR Turkey; Türkiye
TT TTO Trinidad and Tobago
TV TUV Tuvalu
TW TWN Taiwan
TZ TZA Tanzania; United Republic of Tanzania
UA UKR Ukraine
UG UGA Uganda
UM UMI United States Minor Outlying Islands
US USA United States; United States of America; The United States; U.S.A.; U.S.; America
UY URY Uruguay
UZ UZB Uzbekistan
VA VAT Vatican City; Holy See
VC VCT Saint Vincent and the Grenadines
VE VEN Venezuela; Bolivarian Republic of Venezuela
VG VGB British Virgin Islands
VI VIR U.S. Virgin Islands; United States Virgin Islands
VN VNM Vietnam; Viet Nam
VU VUT Vanuatu
WF WLF Wallis and Futuna
WS WSM Samoa
XK XKX Kosovo
YE YEM Yemen
YT MYT Mayotte
ZA ZAF South Africa
ZM ZMB Zambia
ZW ZWE Zimbabwe
"""

_US_STATES = """
AL Alabama; AK Alaska; AZ Arizona; AR Arkansas; CA California; CO Colorado; CT Connecticut; DE Delaware;
DC District of Columbia; FL Florida; GA Georgia; HI Hawaii; ID Idaho; IL Illinois; IN Indiana; IA Iowa; KS Kansas;
KY Kentucky; LA Louisiana; ME Maine; MD Maryland; MA Massachusetts; MI Michigan; MN Minnesota; MS Mississippi;
MO Missouri; MT Montana; NE Nebraska; NV Nevada; NH New Hampshire; NJ New Jersey; NM New Mexico; NY New York;
NC North Carolina; ND North Dakota; OH Ohio; OK Oklahoma; OR Oregon; PA Pennsylvania; RI Rhode Island;
SC South Carolina; SD South Dakota; TN Tennessee; TX Texas; UT Utah; VT Vermont; VA Virginia; WA Washington;
WV West Virginia; WI Wisconsin; WY Wyoming
"""

_CA_PROVINCES = """
AB Alberta; BC British Columbia; MB Manitoba; NB New Brunswick; NL Newfoundland and Labrador; NS Nova Scotia;
NT Northwest Territories; NU Nunavut; ON Ontario; PE Prince Edward Island; QC Quebec; SK Saskatchewan; YT Yukon
"""


def _countries() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _COUNTRIES.strip().splitlines():
        code, alpha3, names = line.split(maxsplit=2)
        for name in (code, alpha3, *names.split(";")):
            key = letters_key(name) or ""
            found[key] = code
    return found


def _regions(lines: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in lines.strip().split(";"):
        code, name = item.split(maxsplit=1)
        found[code.lower()] = found[letters_key(name) or ""] = code
    return found


# Match key of a code or a name -> alpha-2.
COUNTRY_NAMES: dict[str, str] = _countries()
# Country -> match key of a region's code or name -> its code.
STATES: dict[str, dict[str, str]] = {"US": _regions(_US_STATES), "CA": _regions(_CA_PROVINCES)}
