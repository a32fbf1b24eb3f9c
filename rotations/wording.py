"""The sentences of a plan: what each step is, and why it comes when it does."""

from dataclasses import dataclass

from rotations.parts import Act, Change, Effect, Party, System


@dataclass(frozen=True)
class Scene:
    """One step as far as it is known before it has words."""

    change: Change
    act: Act
    system: System | None
    party: Party | None
    effects: tuple[Effect, ...]
    simultaneous: bool


def say(scene: Scene) -> tuple[str, str]:
    """Give a step its title and, in one plain sentence, its reason."""
    return scene.act, scene.act
