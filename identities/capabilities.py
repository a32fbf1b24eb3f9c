"""What an AS2 system can do while a certificate changes: five answers, for our own systems and for partners.

How many certificates a system can read with decides the order of a change, and whether it can sign for each partner by
itself decides whether each partner has its own moment. *Not known* counts as *no*, since a plan that is too careful
costs a phone call, and one that is too bold costs orders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.db import models


class Support(models.TextChoices):
    """Whether an AS2 system can do something: the answer to one of the questions."""

    YES = "yes", "yes"
    NO = "no", "no"
    UNKNOWN = "unknown", "not known"


YES, NO, UNKNOWN = Support.YES, Support.NO, Support.UNKNOWN


@dataclass(frozen=True)
class Software:
    """An AS2 product: what it is called, its five answers, and where they come from."""

    key: str
    name: str
    decrypts_with_two: Support = UNKNOWN
    verifies_messages_with_two: Support = UNKNOWN
    verifies_mdns_with_two: Support = UNKNOWN
    signs_messages_per_partner: Support = UNKNOWN
    signs_mdns_per_partner: Support = UNKNOWN
    source: str = "nothing certain is known"

    @property
    def answers(self) -> dict[str, Support]:
        """Return the answers by the name of their field."""
        return {name: getattr(self, name) for name in QUESTIONS}


#: The questions in the order of forms and pages, by the name of their field.
QUESTIONS: Mapping[str, str] = {
    "decrypts_with_two": "Decrypts with two certificates",
    "verifies_messages_with_two": "Verifies messages with two certificates",
    "verifies_mdns_with_two": "Verifies MDNs with two certificates",
    "signs_messages_per_partner": "Signs messages with a certificate per partner",
    "signs_mdns_per_partner": "Signs MDNs with a certificate per partner",
}

#: By key, in the order in which it is offered.
SOFTWARE: Mapping[str, Software] = {
    product.key: product
    for product in (
        Software("openas2", "OpenAS2", YES, YES, NO, YES, YES, source="tried with OpenAS2 4.9.0"),
        Software("pyas2", "django-pyas2", NO, NO, NO, NO, NO, source="tried with django-pyas2 1.2.3"),
        Software(
            "aws",
            "AWS Transfer Family",
            YES,
            YES,
            source="AWS Transfer Family user guide: a profile has several certificates, each with its own dates",
        ),
        Software(
            "azure",
            "Azure Logic Apps",
            NO,
            NO,
            NO,
            YES,
            source="Azure Logic Apps: an agreement names one certificate for each purpose",
        ),
        Software("files_com", "Files.com", NO, NO, NO, NO, NO, source="Files.com API: a station has one certificate"),
        Software("mendelson", "mendelson AS2"),
        Software(
            "cleo",
            "Cleo Harmony, VLTrader or LexiCom",
            YES,
            YES,
            UNKNOWN,
            YES,
            source="Cleo user guide, “Scheduling certificates for future use”: per partner, from first use on",
        ),
        Software("sterling", "IBM Sterling B2B Integrator"),
        Software(
            "webmethods",
            "webMethods Trading Networks",
            NO,
            YES,
            UNKNOWN,
            YES,
            source="Trading Networks administrator’s guide, “Overlapping of certificates”: it does not change to "
            "the secondary set by itself when it decrypts",
        ),
        Software(
            "biztalk",
            "Microsoft BizTalk Server",
            signs_messages_per_partner=YES,
            source="BizTalk Server, “Configuring certificates for AS2”: an agreement can have a certificate of its own",
        ),
        Software(
            "cdata_arc",
            "CData Arc",
            decrypts_with_two=YES,
            source="CData Arc knowledge base: the rollover certificate decrypts beside the personal one",
        ),
    )
}

OTHER_SOFTWARE = "other"
SOFTWARE_CHOICES = [*((key, product.name) for key, product in SOFTWARE.items()), (OTHER_SOFTWARE, "Another one")]


def answers_of(software: str) -> dict[str, Support]:
    """Return what is known about a product, by the name of the field; empty for another product or none."""
    return SOFTWARE[software].answers if software in SOFTWARE else {}


def _answer_field(name: str, help_text: str) -> models.CharField[str, str]:
    return models.CharField(
        QUESTIONS[name][0].lower() + QUESTIONS[name][1:],
        max_length=10,
        choices=Support,
        default=Support.UNKNOWN,
        help_text=help_text,
    )


class AbstractCapabilities(models.Model):
    """The five answers about an AS2 system, and which product it is."""

    software = models.CharField(
        "AS2 software",
        max_length=20,
        choices=[("", "Not known"), *SOFTWARE_CHOICES],
        blank=True,
        help_text="It fills in the answers below that are “not known”.",
    )
    decrypts_with_two = _answer_field(
        "decrypts_with_two", "It can hold the old and the new private key, and reads messages for either."
    )
    verifies_messages_with_two = _answer_field(
        "verifies_messages_with_two",
        "It accepts messages that are signed with the other side’s old or new certificate.",
    )
    verifies_mdns_with_two = _answer_field(
        "verifies_mdns_with_two",
        "It accepts receipts (MDNs) that are signed with either. If it does not, messages arrive and count as failed.",
    )
    signs_messages_per_partner = _answer_field(
        "signs_messages_per_partner",
        "It can sign for one partner with the new certificate, and for another with the old.",
    )
    signs_mdns_per_partner = _answer_field("signs_mdns_per_partner", "The same for the receipts that it sends.")

    class Meta:
        abstract = True

    def reads_with_two(self, role: str) -> Support:
        """Return whether it reads with two certificates in the role "decrypt" or "verify".

        To verify, that has to be so for messages and for MDNs, since the other side signs both with one certificate.
        """
        if role == "decrypt":
            return Support(self.decrypts_with_two)
        return _all_of(self.verifies_messages_with_two, self.verifies_mdns_with_two)

    @property
    def signs_per_partner(self) -> bool:
        """Whether it signs messages and MDNs with a certificate of their own for each partner."""
        return _all_of(self.signs_messages_per_partner, self.signs_mdns_per_partner) is Support.YES

    @property
    def capabilities(self) -> list[tuple[str, str]]:
        """Return the answers for a page, each with what it is about, such as "Decrypts with" and "one certificate"."""
        return [
            (about, phrases.get(Support(getattr(self, name)), Support.UNKNOWN.label))
            for name, (about, phrases) in _FACTS.items()
        ]


_NUMBER = {Support.YES: "two certificates", Support.NO: "one certificate"}
_CHOICE = {Support.YES: "per partner", Support.NO: "the same for all partners"}
_FACTS = {
    "decrypts_with_two": ("Decrypts with", _NUMBER),
    "verifies_messages_with_two": ("Verifies messages with", _NUMBER),
    "verifies_mdns_with_two": ("Verifies MDNs with", _NUMBER),
    "signs_messages_per_partner": ("Signs messages", _CHOICE),
    "signs_mdns_per_partner": ("Signs MDNs", _CHOICE),
}


def _all_of(*answers: str) -> Support:
    if Support.NO in answers:
        return Support.NO
    return Support.UNKNOWN if Support.UNKNOWN in answers else Support.YES
