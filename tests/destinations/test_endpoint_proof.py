"""The proof that an endpoint takes remote write, where asking for it hangs."""

import threading
import time

from metric_forwarder.clients.http import Failure, HttpReply
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.destinations.remote_write_proof import EndpointProof
from metric_forwarder.machine import system_machine


def judge(reply: HttpReply) -> Verdict:
    asked_s = float(reply.headers.get("Retry-After", 0)) or None
    return Verdict(Action.HOLD_OFF, f"http {reply.status}", "it is busy", reply.status, retry_after_s=asked_s)


def test_a_question_that_hangs_keeps_no_later_event_from_sending() -> None:
    asked, answered = threading.Event(), threading.Event()

    def hang(_body: bytes, _timeout_s: float) -> HttpReply | Failure:
        asked.set()
        answered.wait(30)
        return HttpReply(400, {}, b"")

    proof = EndpointProof(hang, judge, system_machine())
    first = threading.Thread(target=proof.before_points, args=(30.0,))
    first.start()
    asked.wait(30)

    assert proof.before_points(0.02) is None
    verdict = proof.after_success(time.monotonic() + 0.1)
    assert verdict is not None
    assert verdict.action is Action.RESEND
    assert first.is_alive()
    answered.set()
    first.join()
    assert proof.is_proven
