"""A request waits for somebody's answer; who does not answer is reminded, then somebody else is asked.

    ask → (an answer, or patience is over) → remind → (…) → escalate → (…) → given up

One callback is raced against one wait after the other. Nothing runs meanwhile: patience may be a minute or a month.
Mails are lines in `mails.log` (or in the file that MAILS names).

Try it, and answer from another terminal with the callback id of `perdure callback list`:

    perdure run examples/approval/approval.py:handler -e '{"what": "a new grinder", "patience_s": 60}' --wait
    perdure callback succeed ID -r '{"approved": true, "by": "Ada"}'
"""

import os
from pathlib import Path
from typing import Any

from perdure import CallbackConfig, DurableContext, JsonSerDes, StepContext, durable_execution, durable_step


@durable_step
def mail(step: StepContext, to: str, text: str, callback_id: str) -> None:
    with Path(os.environ.get("MAILS", "mails.log")).open("a") as file:
        print(f"{to}: {text} (answer with {callback_id})", file=file, flush=True)


@durable_execution(name="approval")
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    what = event["what"]
    decision = context.create_callback("decision", CallbackConfig(serdes=JsonSerDes()))
    rounds = [
        (event.get("approver", "team lead"), f"may we buy {what}?"),
        (event.get("approver", "team lead"), f"a reminder: may we buy {what}?"),
        (event.get("escalation", "head of department"), f"nobody has decided: may we buy {what}?"),
    ]
    for to, text in rounds:
        context.step(mail(to, text, decision.callback_id))
        patience = context.start.wait(event.get("patience_s", 3600), name="patience")
        answer = context.race(decision, patience, name="decided")
        if answer is not None:  # an answer is a JSON object; a wait that is over gives None
            return {"what": what, "mails": rounds.index((to, text)) + 1, **answer}
    return {"what": what, "mails": len(rounds), "approved": False, "by": "nobody"}
