"""A replay of the HorizontalPodAutoscaler's published formula over a recorded load. Not a cluster, and no proof of one.

https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/#algorithm-details: with a metric of
pods and an average as its target, replicas = ceil(replicas * average / target), nothing within a tolerance of 0.1; then
the stabilisation window (the highest recommendation in it stays, going down) and the policies (how much may come or go
within a period) of `behavior`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

SYNC_SECONDS = 15
TOLERANCE = 0.1


@dataclass
class Replay:
    """One autoscaler with its Deployment."""

    spec: dict[str, Any]
    """The spec of a HorizontalPodAutoscaler with one metric of pods."""
    start_seconds: float
    """From the decision until a new pod serves."""
    now: float = 0.0
    pods: list[float] = field(default_factory=list)
    """When each pod serves, oldest first."""
    _recommended: list[tuple[float, int]] = field(default_factory=list)
    _changed: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pods = [0.0] * self.spec["minReplicas"]

    @property
    def replicas(self) -> int:
        """Pods, those that start among them."""
        return len(self.pods)

    @property
    def serving(self) -> int:
        """Pods that serve."""
        return sum(ready <= self.now for ready in self.pods)

    def run(self, offered: Callable[[float], float], until: float) -> list[tuple[float, float, int, int]]:
        """Return time, mean saturation of the pods that serve, pods that serve and pods, at every decision.

        `offered` says how many replicas' worth of work there is at a time.
        """
        history = []
        while self.now <= until:
            work = offered(self.now)
            history.append((self.now, work / self.serving, self.serving, self.replicas))
            self._decide(work)
            self.now += SYNC_SECONDS
        return history

    def _decide(self, work: float) -> None:
        wanted = self._stable(self._recommendation(work))
        allowed = min(wanted, self._limit("scaleUp")) if wanted > self.replicas else wanted
        allowed = max(allowed, self._limit("scaleDown")) if wanted < self.replicas else allowed
        self._scale(allowed)

    def _recommendation(self, work: float) -> int:
        """Pods without a sample count as idle before more are added, so the mean is over all of them."""
        ratio = work / self.replicas / quantity(self.spec["metrics"][0]["pods"]["target"]["averageValue"])
        wanted = self.replicas if abs(ratio - 1) <= TOLERANCE else math.ceil(self.replicas * ratio)
        return min(max(wanted, self.spec["minReplicas"]), self.spec["maxReplicas"])

    def _stable(self, recommended: int) -> int:
        self._recommended.append((self.now, recommended))
        up, down = (self._within(self._window(direction)) for direction in ("scaleUp", "scaleDown"))
        return min(max(self.replicas, min(up)), max(down))

    def _window(self, direction: str) -> float:
        return float(self.spec["behavior"][direction]["stabilizationWindowSeconds"])

    def _within(self, seconds: float) -> Sequence[int]:
        return [count for time, count in self._recommended if time >= self.now - seconds]

    def _limit(self, direction: str) -> int:
        sign = 1 if direction == "scaleUp" else -1
        limits = []
        for policy in self.spec["behavior"][direction]["policies"]:
            since = self.now - policy["periodSeconds"]
            moved = sum(change for time, change in self._changed if time > since and change * sign > 0)
            before = self.replicas - moved
            step = before * policy["value"] / 100 if policy["type"] == "Percent" else policy["value"]
            limits.append(math.ceil(before + sign * step))
        return max(limits) if sign > 0 else min(limits)

    def _scale(self, count: int) -> None:
        change = count - self.replicas
        if change:
            self._changed.append((self.now, change))
            self.pods = sorted([*self.pods, *[self.now + self.start_seconds] * change])[:count]


def quantity(text: str) -> float:
    """The number of a Kubernetes quantity such as 700m or 100."""
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)
