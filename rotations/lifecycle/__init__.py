"""What operators decide: drafts, approval, windows, emergencies, and how a rotation or a step ends.

What partners do belongs in exchange/, carrying out steps in execution/, pages and forms in web/.
"""
