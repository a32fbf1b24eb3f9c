"""Where a certificate is entered in each AS2 product, and what to look at afterwards, by the names of its own screens.

A product is here only if its vendor describes it in public, or if it was tried. Pure: no Django.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ProductScreen:
    """Where the certificate of the product's own side and that of the other side go; "" where that is not known."""

    name: str
    own: str
    other: str
    check: str
    source: str


SCREENS: Mapping[str, ProductScreen] = {
    "openas2": ProductScreen(
        "OpenAS2",
        "add the key and its certificate to the PKCS#12 keystore first, then name its alias at your own <partner> in "
        "partnerships.xml: x509_alias signs, x509_alias_fallback is accepted beside it.",
        "add the certificate to the PKCS#12 keystore first, then name its alias at the <partner> in partnerships.xml: "
        "x509_alias encrypts and checks MDNs, x509_alias_fallback is accepted for messages beside it.",
        "Look in its log for the reloading of both files: until then, it uses the old ones.",
        "tried with OpenAS2 4.9.0",
    ),
    "pyas2": ProductScreen(
        "django-pyas2",
        "add the key under “Private keys” in its admin, then choose it in the organization’s fields for the encryption "
        "and the signature key.",
        "add the certificate under “Public certificates” in its admin, then choose it in the partner’s fields for the "
        "encryption and the signature certificate.",
        "Open the organization or the partner again: what is shown there is used at once.",
        "tried with django-pyas2 1.2.3",
    ),
    "aws": ProductScreen(
        "AWS Transfer Family",
        "import it under “AS2 Trading Partners”, “Certificates”, once for signing and once for encryption, each with "
        "the private key, and choose it in the local profile.",
        "import it under “AS2 Trading Partners”, “Certificates”, once for signing and once for encryption, and choose "
        "it in the partner profile.",
        "The status of the certificate has to be Active, and the profile has to list it.",
        "AWS Transfer Family user guide, “Manage AS2 partners”, "
        "https://docs.aws.amazon.com/transfer/latest/userguide/managing-as2-partners.html",
    ),
    "azure": ProductScreen(
        "Azure Logic Apps",
        "add it under “Certificates” of the integration account, with its key in Key Vault, then choose it in each "
        "AS2 agreement: in the Receive Settings to decrypt, in the Send Settings to sign.",
        "add it under “Certificates” of the integration account, then choose it in the AS2 agreement: in the Receive "
        "Settings to check signatures, in the Send Settings to encrypt.",
        "Open the agreement again: both settings have to name the new certificate.",
        "Azure Logic Apps, “Reference for AS2 message settings in agreements”, "
        "https://learn.microsoft.com/en-us/azure/logic-apps/logic-apps-enterprise-integration-as2-message-settings",
    ),
    "sterling": ProductScreen(
        "IBM Sterling B2B Integrator",
        "check in the system certificate under “Trading Partner > Digital Certificates > System”, then choose it "
        "under “Trading Partner > AS2” in the organization profile: Exchange Certificate decrypts, Signing Certificate "
        "signs.",
        "check it in under “Trading Partner > Digital Certificates > Trusted”, then choose it in the partner profile "
        "under “Trading Partner > AS2”.",
        "Open the profile again: it has to name the new certificate.",
        "IBM, “Check In Trusted System Certificates”, https://www.ibm.com/docs/en/b2b-integrator/6.2.0"
        "?topic=prerequisites-check-in-trusted-system-certificates; “Updating an expiring AS2 Organization "
        "certificate”, https://www.ibm.com/developerworks/community/blogs/SterlingB2B/entry/"
        "Manually_updating_an_expiring_AS2_Organization_certificate",
    ),
    "cleo": ProductScreen(
        "Cleo",
        "open “Certificate Exchange” in the certificate management, go to “My Certs”, and use “Schedule Certificates "
        "For Future Use”.",
        "open “Certificate Exchange” in the certificate management, go to “Trading Partner Certs”, and use “Schedule "
        "Certificates For Future Use”.",
        "The panel shows the new certificate beside the current one until the scheduled moment, or until it is first "
        "used.",
        "Cleo user guide, “Scheduling certificates for future use”, https://portal.cleo.com/support/byproduct/Lexicom/"
        "Usersguide/Tasks/SchedulingCertsForFutureUse_topic.html",
    ),
    "webmethods": ProductScreen(
        "webMethods Trading Networks",
        "add it to your own profile as a certificate set: Sign/Verify to sign, Encrypt/Decrypt to decrypt. The first "
        "set is the primary one, a second one the secondary.",
        "add it to the partner’s profile as a certificate set: Sign/Verify to check signatures, Encrypt/Decrypt to "
        "encrypt. The first set is the primary one, a second one the secondary.",
        "Look which set is the primary one: the receiver’s Encrypt/Decrypt set is not changed over by itself.",
        "webMethods Trading Networks, “Adding Security Information”, https://documentation.softwareag.com/webmethods/"
        "trading_networks/otn10-7/10-7_Trading_Networks_webhelp/otn-webhelp/to-profiles_25.html",
    ),
    "biztalk": ProductScreen(
        "BizTalk Server",
        "install the .pfx in the Personal store of the account of each AS2 host instance. To sign, choose it on the "
        "Certificate page of the Group Properties, or in one agreement by overriding the group’s signing certificate; "
        "to decrypt, being in the store is enough.",
        "install the .cer in the Other People store of the local computer on each AS2 server, then choose it on the "
        "Certificate page of the Party Properties to check signatures, and on that of the send port to encrypt.",
        "Open these pages again: they have to show the new thumbprint.",
        "BizTalk Server, “Configuring certificates for AS2”, "
        "https://learn.microsoft.com/en-us/biztalk/core/configuring-certificates-for-as2",
    ),
    "cdata_arc": ProductScreen(
        "CData Arc",
        "open the AS2 profile. Before the change, the new certificate is the rollover certificate, beside the personal "
        "one; at the change, the two swap places. The personal one signs, and both decrypt.",
        "",
        "Save the profile, and open it again: the change counts only once it is saved.",
        "CData Arc knowledge base, “How To Seamlessly Transition a Personal Certificate in AS2”, "
        "https://arc.cdata.com/jp/kb/entries/_rollover-certificate.rst",
    ),
}
"""By the key of the product in ``identities.capabilities``. Of mendelson AS2 no public description was found."""


def describe_screen(software: str, whose: Literal["own", "other"]) -> str:
    """Return where a certificate of one side goes in a product and what to look at, as sentences; "" if not known."""
    screen = SCREENS.get(software)
    place = (screen.own if whose == "own" else screen.other) if screen else ""
    return f"In {screen.name}, {place} {screen.check}" if screen and place else ""
