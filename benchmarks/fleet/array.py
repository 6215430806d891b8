"""An array of tasks on SLURM in simulated time: nodes take the next shard when one has ended."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.fleet.world import LOST_S, Floats, World

#: Seconds until a task that was drained may be run again (an expired credential, a throttled queue), and one
#: whose node was lost (SlurmdTimeout's default, and the two minutes for which its run's lock is watched).
REQUEUED_S, LOST_NODE_S = 120.0, 420.0


@dataclass
class Outcome:
    """How an array ended, in seconds; `twice` is work that was done more than once, at speed 1. `starts`
    counts the starts of tasks, `ends` has the end of each node's last one."""

    name: str
    seconds: float = 0.0
    twice: float = 0.0
    starts: int = 0
    ends: list[float] = field(default_factory=list)


def run_array(name: str, world: World, work: Floats, order: Sequence[int], start_s: float) -> Outcome:
    """All shards, `work` seconds each at speed 1, begun in that order; each start of one takes `start_s`.

    A shard that is interrupted goes back into the queue, to its old place, and goes on from its ledger.
    """
    outcome = Outcome(name, ends=[0.0] * len(world.speeds))
    left = work.copy()
    ready = list(enumerate(order))
    later: list[tuple[float, int, int]] = []
    outages = [iter(each) for each in world.outages]
    outage = [next(each) for each in outages]
    idle = [(0.0, node) for node in range(len(world.speeds))]
    done = 0
    while done < len(order):
        now, node = heapq.heappop(idle)
        while later and later[0][0] <= now:
            heapq.heappush(ready, heapq.heappop(later)[1:])
        while outage[node].end <= now:
            outage[node] = next(outages[node])
        down = outage[node]
        if down.begin <= now:
            heapq.heappush(idle, (down.end, node))
            continue
        if not ready:
            # Whatever may come back is with other nodes, or waits: none of those comes back before the next
            # node has something to tell.
            until = [time for time, *_ in [*later[:1], *idle[:1]] if time > now]
            heapq.heappush(idle, (min(until, default=now + 1), node))
            continue
        place, shard = heapq.heappop(ready)
        outcome.starts += 1
        end = now + start_s + float(left[shard] / world.speeds[node])
        if end <= down.begin:
            done += 1
            outcome.ends[node] = end
            heapq.heappush(idle, (end, node))
            continue
        made = max(0.0, down.begin - now - start_s) * float(world.speeds[node])
        lost = min(made, LOST_S * float(world.speeds[node])) if down.hard else 0.0
        left[shard] -= made - lost
        outcome.twice += lost
        wait = LOST_NODE_S if down.hard else REQUEUED_S
        heapq.heappush(later, (down.begin + wait, place, shard))
        heapq.heappush(idle, (down.end, node))
    outcome.seconds = max(outcome.ends)
    return outcome
