"""The plans of the six changes, written out by hand from the rules.

Each line is a step; "=" marks those that happen together, and what a step moves follows as role-move.
"""

from tests.rotations.planning.changes import ONE, SEVERAL

OVERLAP = {
    "A": """
        announce:p1
        install:p1 sign-add
        cut_over:s1 sign-switch
        test:s1:p1
        partner_retire:p1 sign-drop
        retire:s1
    """,
    "B": """
        stage:s1 decrypt-add
        announce:p1
        partner_cut_over:p1 decrypt-switch
        retire:s1 decrypt-drop
    """,
    "D": """
        check:p1
        stage:s1 verify-add
        announce:p1
        partner_cut_over:p1 verify-switch
        retire:s1 verify-drop
    """,
    "E": """
        check:p1
        install:p1 encrypt-add
        cut_over:s1 encrypt-switch
        test:s1:p1
        partner_retire:p1 encrypt-drop
        retire:s1
    """,
}
AT_ONCE = {
    "A": """
        announce:p1
        agree:p1
        hold:s1
        =cut_over:s1 sign-switch
        =partner_cut_over:p1 sign-replace
        test:s1:p1
        release:s1
        retire:s1
    """,
    "B": """
        announce:p1
        agree:p1
        =cut_over:s1 decrypt-replace
        =partner_cut_over:p1 decrypt-switch
        test:s1:p1
        retire:s1
    """,
    "D": """
        check:p1
        announce:p1
        agree:p1
        hold:s1
        =cut_over:s1 verify-replace
        =partner_cut_over:p1 verify-switch
        test:s1:p1
        release:s1
        retire:s1
    """,
    "E": """
        check:p1
        agree:p1
        hold:s1
        =cut_over:s1 encrypt-switch
        =partner_cut_over:p1 encrypt-replace
        test:s1:p1
        release:s1
        retire:s1
    """,
}
# (change, ours, theirs): in A and E only the partner reads, in B and D only we do, in C and F both.
EXPECTED = {
    ("A", SEVERAL, SEVERAL): OVERLAP["A"],
    ("A", ONE, SEVERAL): OVERLAP["A"],
    ("A", SEVERAL, ONE): AT_ONCE["A"],
    ("A", ONE, ONE): AT_ONCE["A"],
    ("B", SEVERAL, SEVERAL): OVERLAP["B"],
    ("B", SEVERAL, ONE): OVERLAP["B"],
    ("B", ONE, SEVERAL): AT_ONCE["B"],
    ("B", ONE, ONE): AT_ONCE["B"],
    ("C", SEVERAL, SEVERAL): """
        stage:s1 decrypt-add
        announce:p1
        install:p1 sign-add
        partner_cut_over:p1 decrypt-switch
        cut_over:s1 sign-switch
        test:s1:p1
        partner_retire:p1 sign-drop
        retire:s1 decrypt-drop
    """,
    ("C", SEVERAL, ONE): """
        stage:s1 decrypt-add
        announce:p1
        agree:p1
        hold:s1
        =cut_over:s1 sign-switch
        =partner_cut_over:p1 sign-replace decrypt-switch
        test:s1:p1
        release:s1
        retire:s1 decrypt-drop
    """,
    ("C", ONE, SEVERAL): """
        announce:p1
        install:p1 sign-add
        agree:p1
        =cut_over:s1 decrypt-replace sign-switch
        =partner_cut_over:p1 decrypt-switch
        test:s1:p1
        partner_retire:p1 sign-drop
        retire:s1
    """,
    ("C", ONE, ONE): """
        announce:p1
        agree:p1
        hold:s1
        =cut_over:s1 decrypt-replace sign-switch
        =partner_cut_over:p1 sign-replace decrypt-switch
        test:s1:p1
        release:s1
        retire:s1
    """,
    ("D", SEVERAL, SEVERAL): OVERLAP["D"],
    ("D", SEVERAL, ONE): OVERLAP["D"],
    ("D", ONE, SEVERAL): AT_ONCE["D"],
    ("D", ONE, ONE): AT_ONCE["D"],
    ("E", SEVERAL, SEVERAL): OVERLAP["E"],
    ("E", ONE, SEVERAL): OVERLAP["E"],
    ("E", SEVERAL, ONE): AT_ONCE["E"],
    ("E", ONE, ONE): AT_ONCE["E"],
    ("F", SEVERAL, SEVERAL): """
        check:p1
        stage:s1 verify-add
        announce:p1
        install:p1 encrypt-add
        partner_cut_over:p1 verify-switch
        cut_over:s1 encrypt-switch
        test:s1:p1
        partner_retire:p1 encrypt-drop
        retire:s1 verify-drop
    """,
    ("F", SEVERAL, ONE): """
        check:p1
        stage:s1 verify-add
        announce:p1
        agree:p1
        hold:s1
        =cut_over:s1 encrypt-switch
        =partner_cut_over:p1 encrypt-replace verify-switch
        test:s1:p1
        release:s1
        retire:s1 verify-drop
    """,
    ("F", ONE, SEVERAL): """
        check:p1
        announce:p1
        install:p1 encrypt-add
        agree:p1
        hold:s1
        =cut_over:s1 verify-replace encrypt-switch
        =partner_cut_over:p1 verify-switch
        test:s1:p1
        release:s1
        partner_retire:p1 encrypt-drop
        retire:s1
    """,
    ("F", ONE, ONE): """
        check:p1
        announce:p1
        agree:p1
        hold:s1
        =cut_over:s1 verify-replace encrypt-switch
        =partner_cut_over:p1 encrypt-replace verify-switch
        test:s1:p1
        release:s1
        retire:s1
    """,
}

# (change, ours, theirs) where our system signs per partner. Where the key that decrypts has one slot in our system,
# everybody changes at once: such plans are those above.
EXPECTED_PER_PARTNER = {
    ("A", ONE, (SEVERAL, ONE)): """
        announce:p1
        announce:p2
        install:p1 sign-add
        agree:p2
        hold:s1:p2
        cut_over:s1:p1 sign-switch
        =cut_over:s1:p2 sign-switch
        =partner_cut_over:p2 sign-replace
        cut_over:s1 sign-switch
        test:s1:p1
        test:s1:p2
        release:s1:p2
        partner_retire:p1 sign-drop
        retire:s1
    """,
    ("C", SEVERAL, (ONE, SEVERAL)): """
        stage:s1 decrypt-add
        announce:p1
        announce:p2
        install:p2 sign-add
        agree:p1
        partner_cut_over:p2 decrypt-switch
        hold:s1:p1
        cut_over:s1:p2 sign-switch
        =cut_over:s1:p1 sign-switch
        =partner_cut_over:p1 sign-replace decrypt-switch
        cut_over:s1 sign-switch
        test:s1:p1
        test:s1:p2
        release:s1:p1
        partner_retire:p2 sign-drop
        retire:s1 decrypt-drop
    """,
    ("C", SEVERAL, (SEVERAL,)): """
        stage:s1 decrypt-add
        announce:p1
        install:p1 sign-add
        partner_cut_over:p1 decrypt-switch
        cut_over:s1:p1 sign-switch
        cut_over:s1 sign-switch
        test:s1:p1
        partner_retire:p1 sign-drop
        retire:s1 decrypt-drop
    """,
    ("C", ONE, (SEVERAL,)): EXPECTED["C", ONE, SEVERAL],
    ("C", ONE, (ONE,)): EXPECTED["C", ONE, ONE],
    ("B", SEVERAL, (ONE,)): EXPECTED["B", SEVERAL, ONE],
    ("B", ONE, (SEVERAL,)): EXPECTED["B", ONE, SEVERAL],
    ("D", SEVERAL, (SEVERAL,)): EXPECTED["D", SEVERAL, SEVERAL],
    ("F", ONE, (ONE,)): EXPECTED["F", ONE, ONE],
}
