"""What passes between us and the partners of a rotation: letters, answers, and who is still waited for."""
