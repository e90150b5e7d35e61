"""Runs a session on the stand-ins in a process of its own, since the driver's library is found when a process starts, and prints what came of it."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import small_plans

from gpucost.bench import session, store, supervisor

WORKER = [sys.executable, str(Path(__file__).with_name("standin_worker.py"))]


def main():
    arguments = json.loads(sys.argv[1])
    kind = arguments.get("kind", "device")
    supervisor.REQUEST_SLACK_S = arguments.get("slack_s", supervisor.REQUEST_SLACK_S)
    plan = small_plans.PLANS[arguments.get("plan", kind)]
    session.TOGETHER_S = 0.05
    session.plan.PEER_BYTES = 1 << 16
    options = session.Options(
        arguments.get("mode", "quick"), arguments.get("gpus", ""), [], arguments.get("allow_shared", False)
    )
    said = []

    class Said(session.Silent):
        def say(self, line):
            said.append(line)

    made = session.Session(
        options,
        progress=Said(),
        plan_maker=lambda device: plan(options.mode),
        command=[*WORKER, arguments.get("worker", kind)],
    )
    made.look_s = 0.3
    outcomes = made.run()
    folder = Path(arguments["out"])
    report = []
    for one in outcomes:
        if one.profile is not None:
            store.write(store.place(folder, one.profile), one.profile, one.samples, one.telemetry)
        report.append({"label": one.label, "refused": one.refused, "profile": one.profile and one.profile.to_json()})
    print(json.dumps({"outcomes": report, "said": said}))


if __name__ == "__main__":
    main()
