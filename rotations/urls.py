"""The addresses of rotations."""

from django.urls import path

from rotations.views import (
    announcing,
    apart,
    asking,
    bouncing,
    capability,
    deciding,
    dossiers,
    drafts,
    emergency,
    following,
    freezes,
    handed_in,
    links,
    pages,
    paper,
    participants,
    phrases,
    rehearsing,
    sightings,
    slots,
    steps,
    stopping,
    together,
)

urlpatterns = [
    path("rotations/", pages.rotation_list, name="rotation-list"),
    path("rotations/new/", drafts.rotation_create, name="rotation-create"),
    path("rotations/preview/", drafts.rotation_preview, name="rotation-preview"),
    path("rotations/messages/<uuid:uid>/", sightings.sighting_create, name="partner-seen"),
    path("rotations/freezes/", freezes.freeze_list, name="freeze-list"),
    path("rotations/freezes/new/", freezes.freeze_create, name="freeze-create"),
    path("rotations/freezes/<uuid:uid>/", freezes.freeze_update, name="freeze-update"),
    path("rotations/freezes/<uuid:uid>/lift/", freezes.freeze_delete, name="freeze-delete"),
    path("rotations/<uuid:uid>/", pages.rotation_detail, name="rotation-detail"),
    path("rotations/<uuid:uid>/live/", pages.rotation_live, name="rotation-live"),
    path("rotations/<uuid:uid>/on-paper/", paper.rotation_paper, name="rotation-paper"),
    path("rotations/<uuid:uid>/plan/", capability.rotation_plan, name="rotation-plan"),
    path("rotations/<uuid:uid>/change/", drafts.rotation_update, name="rotation-update"),
    path("rotations/<uuid:uid>/approve/", deciding.rotation_approve, name="rotation-approve"),
    path("rotations/<uuid:uid>/postpone/", deciding.rotation_postpone, name="rotation-postpone"),
    path("rotations/<uuid:uid>/cancel/", deciding.rotation_cancel, name="rotation-cancel"),
    path("rotations/<uuid:uid>/emergency/", emergency.rotation_emergency, name="rotation-emergency"),
    path("rotations/<uuid:uid>/close/", deciding.rotation_close, name="rotation-close"),
    path("rotations/<uuid:uid>/roll-back/", deciding.rotation_roll_back, name="rotation-roll-back"),
    path(
        "rotations/<uuid:uid>/rehearsal/", rehearsing.rotation_name_rehearsal, name="rotation-name-rehearsal"
    ),
    path(
        "rotations/<uuid:uid>/without-rehearsal/",
        rehearsing.rotation_waive_rehearsal,
        name="rotation-waive-rehearsal",
    ),
    path("rotations/<uuid:uid>/following/", following.rotation_following, name="rotation-following"),
    path("rotations/<uuid:uid>/announce/", announcing.rotation_announce, name="rotation-announce"),
    path("rotations/<uuid:uid>/times/", slots.rotation_slots, name="rotation-slots"),
    path(
        "rotations/<uuid:uid>/times/withdraw/", slots.rotation_slots_withdraw, name="rotation-slots-withdraw"
    ),
    path("rotations/times/<uuid:uid>/take/", slots.slot_take, name="slot-take"),
    path("rotations/<uuid:uid>/together/", together.rotation_together, name="rotation-together"),
    path("rotations/<uuid:uid>/print/", together.rotation_print, name="rotation-print"),
    path("rotations/<uuid:uid>/done/<slug:act>/", steps.steps_done, name="rotation-steps-done"),
    path("rotations/steps/<uuid:uid>/done/", steps.step_done, name="rotation-step-done"),
    path("rotations/steps/<uuid:uid>/leave-out/", steps.step_skip, name="rotation-step-skip"),
    path("rotations/steps/<uuid:uid>/try-again/", steps.step_retry, name="rotation-step-retry"),
    path(
        "rotations/partners/<uuid:uid>/answer/", participants.participant_confirm, name="participant-confirm"
    ),
    path("rotations/partners/<uuid:uid>/as-partner/", participants.as_partner, name="participant-as-partner"),
    path("partners/<uuid:uid>/ask/", asking.partner_ask, name="partner-ask"),
    path("partners/<uuid:uid>/ask/html/", asking.partner_ask_html, name="partner-ask-html"),
    path("partners/<uuid:uid>/hand-in-link/", asking.partner_hand_in_link, name="partner-hand-in-link"),
    path("stop/<str:signed>/", stopping.mail_stop, name="mail-stop"),
    path("bounces/", bouncing.bounce_in, name="bounce-in"),
    path("mail/<uuid:uid>/came-back/", bouncing.mail_bounced, name="mail-bounced"),
    path("rotations/handed-in/<uuid:uid>/", handed_in.handed_in_accept, name="handed-in-accept"),
    path("rotations/handed-in/<uuid:uid>/refuse/", handed_in.handed_in_refuse, name="handed-in-refuse"),
    path("rotations/partners/<uuid:uid>/remind/", following.participant_nudge, name="participant-nudge"),
    path("rotations/partners/<uuid:uid>/", dossiers.participant_detail, name="participant-detail"),
    path("rotations/partners/<uuid:uid>/stay/", dossiers.participant_stay, name="participant-stay"),
    path("rotations/partners/<uuid:uid>/holds/", capability.participant_holds, name="participant-holds"),
    path("partners/<uuid:uid>/holds-both/", capability.partner_holds_both, name="partner-holds-both"),
    path("rotations/partners/<uuid:uid>/moment/", apart.participant_move, name="participant-move"),
    path(
        "rotations/partners/<uuid:uid>/take-back/", apart.participant_take_back, name="participant-take-back"
    ),
    path("rotations/partners/<uuid:uid>/link/", links.participant_share, name="participant-share"),
    path("rotations/links/<uuid:uid>/withdraw/", links.link_revoke, name="link-revoke"),
    path("rotations/links/<uuid:uid>/send-anew/", links.link_renew, name="link-renew"),
    path("settings/wording/", phrases.phrase_list, name="phrase-list"),
    path("settings/wording/<slug:kind>/", phrases.phrase_update, name="phrase-update"),
    path("settings/wording/<slug:kind>/reset/", phrases.phrase_reset, name="phrase-reset"),
    path("partners/<uuid:uid>/wording/", phrases.partner_phrase_list, name="partner-phrase-list"),
    path(
        "partners/<uuid:uid>/wording/<slug:kind>/",
        phrases.partner_phrase_update,
        name="partner-phrase-update",
    ),
    path(
        "partners/<uuid:uid>/wording/<slug:kind>/reset/",
        phrases.partner_phrase_reset,
        name="partner-phrase-reset",
    ),
    path(
        "rotations/partners/<uuid:uid>/announcement/",
        announcing.participant_announcement,
        name="participant-announcement",
    ),
    path(
        "rotations/partners/<uuid:uid>/announcement/html/",
        announcing.participant_announcement_html,
        name="participant-announcement-html",
    ),
    path(
        "rotations/partners/<uuid:uid>/announcement/files/<str:name>/",
        announcing.participant_announcement_file,
        name="participant-announcement-file",
    ),
    path(
        "rotations/partners/<uuid:uid>/announcement/to-myself/",
        announcing.participant_to_oneself,
        name="participant-to-oneself",
    ),
    path("rotations/partners/<uuid:uid>/go-on/", participants.participant_waive, name="participant-waive"),
    path(
        "rotations/partners/<uuid:uid>/leave-out/", participants.participant_remove, name="participant-remove"
    ),
    path(
        "rotations/partners/<uuid:uid>/bring-back/",
        participants.participant_restore,
        name="participant-restore",
    ),
]
