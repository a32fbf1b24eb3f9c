"""The actions that the page of a rotation offers: the primary button and the menu beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from django.urls import reverse

from identities.open_tasks import ActionLink
from rotations.exchange.responses import BEFORE_CHANGE
from rotations.lifecycle import endings, open_window
from rotations.models import Step
from rotations.planning.change import Act
from rotations.planning.states import (
    AWAITING_WINDOW,
    SETTLED,
    RotationAction,
    RotationState,
    actions_from,
)
from rotations.web.presenters.partner_table import CHANGE_ROTATION
from rotations.web.presenters.partner_tasks import announce_label
from rotations.web.presenters.rotation_detail import RotationDetail

APPROVE_ROTATION = "rotations.approve_rotation"

#: URL name, label and permission of each action.
_ACTIONS = {
    RotationAction.EDIT: ("update", "Change the draft", CHANGE_ROTATION),
    RotationAction.APPROVE: ("approve", "Approve …", APPROVE_ROTATION),
    RotationAction.APPROVE_AGAIN: ("approve", "Approve again …", APPROVE_ROTATION),
    RotationAction.POSTPONE: ("postpone", "Postpone …", CHANGE_ROTATION),
    RotationAction.ROLL_BACK: ("roll-back", "Roll back …", CHANGE_ROTATION),
    RotationAction.CLOSE: ("close", "Close …", CHANGE_ROTATION),
    RotationAction.EMERGENCY: ("emergency", "Emergency: change at once …", APPROVE_ROTATION),
    RotationAction.CANCEL: ("cancel", "Cancel …", CHANGE_ROTATION),
}


def close_obstacle(steps: Iterable[Step]) -> str:
    """Return why a rotation with these steps can't be closed by hand; empty when it can."""
    if any(step.act == Act.RETIRE and step.state not in SETTLED for step in steps):
        return "The old certificate is still accepted: it closes by itself once that is over."
    return ""


@dataclass
class RotationActions:
    """The actions that the reader of a rotation's page may take, with the obstacles to them."""

    detail: RotationDetail

    @cached_property
    def links(self) -> dict[RotationAction, ActionLink]:
        """Return the links of the actions that are possible in this state and permitted."""
        rotation, user = self.detail.rotation, self.detail.user
        possible = actions_from(self.detail.state)
        return {
            action: ActionLink(
                label, reverse(f"rotation-{name}", args=[rotation.uid]), permission, self._obstacle(action)
            )
            for action, (name, label, permission) in _ACTIONS.items()
            if action in possible and user.has_perm(permission)
            if action is not RotationAction.APPROVE_AGAIN or rotation.is_withdrawn
        }

    def _obstacle(self, action: RotationAction) -> str:
        detail = self.detail
        match action:
            case RotationAction.ROLL_BACK:
                return endings.roll_back_obstacle(detail.rotation, now=detail.now)
            case RotationAction.CLOSE:
                return close_obstacle(detail.rotation.steps.filter(act=Act.RETIRE))
            case RotationAction.EMERGENCY if detail.rotation.is_emergency:
                return "Everything that can be done at once is being done."
            case RotationAction.APPROVE | RotationAction.APPROVE_AGAIN if not detail.can_be_approved:
                return detail.four_eyes_obstacle or "Something is missing: see what needs attention."
        return ""

    @cached_property
    def primary(self) -> ActionLink | None:
        """Return the next action; None when there is nothing to do."""
        detail, links = self.detail, self.links
        approve = links.get(RotationAction.APPROVE) or links.get(RotationAction.APPROVE_AGAIN)
        if approve and not approve.obstacle:
            return approve
        if edit := links.get(RotationAction.EDIT):
            return edit if any(task.url == edit.url for task in detail.tasks) else None
        if (switch_now := self._switch_now) and not switch_now.obstacle:
            return switch_now
        if self._may_change:
            if due := detail.due_for_announcement:
                return self._link(announce_label(due), "rotation-announce")
            if detail.is_outstanding and detail.state is RotationState.EXCHANGING:
                return ActionLink("Record answers", "#partners", CHANGE_ROTATION)
        rehearsal = detail.rehearsal
        if rehearsal.link and rehearsal.obstacle and detail.user.has_perm(rehearsal.link.permission):
            return rehearsal.link
        close = links.get(RotationAction.CLOSE)
        return close if close and not close.obstacle else None

    @property
    def menu(self) -> list[ActionLink]:
        """Return all other actions."""
        found = [self._switch_now] if self._switch_now else []
        if self._may_change and self.detail.entries:
            if not self.detail.has_ended:
                found.append(self._link("Following up", "rotation-following"))
            if self.detail.state in BEFORE_CHANGE and not self.detail.rotation.is_phased:
                found.append(self._link("Offer times …", "rotation-slots"))
        return [link for link in (*found, *self.links.values()) if link != self.primary]

    @cached_property
    def _may_change(self) -> bool:
        return self.detail.user.has_perm(CHANGE_ROTATION)

    @cached_property
    def _switch_now(self) -> ActionLink | None:
        """Return the link to change over at once, when the window has no fixed time."""
        rotation = self.detail.rotation
        if self.detail.state not in AWAITING_WINDOW or not rotation.is_fuzzy or not self._may_change:
            return None
        obstacle = open_window.switch_obstacle(rotation, now=self.detail.now)
        return self._link("Switch now …", "rotation-switch-now", obstacle)

    def _link(self, label: str, url_name: str, obstacle: str = "") -> ActionLink:
        url = reverse(url_name, args=[self.detail.rotation.uid])
        return ActionLink(label, url, CHANGE_ROTATION, obstacle)
