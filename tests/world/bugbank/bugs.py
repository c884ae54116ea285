"""Old bugs of this project, found in its history: each is put back alone, by edits of today's code.

Where the code that had the bug no longer exists, the same mistake is made in the code that took its place.
"""

from collections.abc import Mapping

from world import oracles as laws
from world.bugbank.edits import Bug, Edit

_DELIVERY = (
    Bug(
        "answer-in-hand-is-not-in-flight",
        "62506a8",
        "delivery",
        "A request whose success was read, but not yet written down, counted as never sent when the event ended.",
        laws.TWICE,
        (
            Edit(
                "delivery/settling.py",
                "if verdict.action is not Action.ACCEPT and not verdict.action.has(Effect.MAY_HAVE_ARRIVED):",
                "if not verdict.action.has(Effect.MAY_HAVE_ARRIVED):",
            ),
        ),
        needs=("hold",),
    ),
    Bug(
        "no-thread-to-send-raises",
        "62506a8",
        "delivery",
        "An instance without a free thread ended the event with an exception instead of a report.",
        laws.SOUND,
        (
            Edit(
                "delivery/workers.py",
                "            except RuntimeError:\n                self._leave()\n                return False\n",
                "            except ZeroDivisionError:\n                return False\n",
            ),
        ),
        needs=("no threads",),
    ),
    Bug(
        "retry-after-for-ever",
        "62506a8",
        "delivery",
        "A warm instance kept to a Retry-After of hours, though the destination was well again after a minute.",
        laws.REST,
        (Edit("delivery/pacing.py", "_PROBE_AFTER_S = 50.0\n", "_PROBE_AFTER_S = 1e9\n"),),
        needs=("retry-after",),
    ),
    Bug(
        "last-retry-after-forgotten",
        "62506a8",
        "delivery",
        "The Retry-After of a batch's last attempt was not kept by the other batches and events.",
        laws.BOUNDED,
        (
            Edit(
                "delivery/retry.py",
                "        self._pacer.pause(asked)\n        state.failed += 1\n        if state.failed >= self._policy.max_attempts:\n"
                "            return Final.BATCH\n",
                "        state.failed += 1\n        if state.failed >= self._policy.max_attempts:\n"
                "            return Final.BATCH\n        self._pacer.pause(asked)\n",
            ),
        ),
        needs=("retry-after",),
    ),
    Bug(
        "retry-after-of-429-forgotten",
        "62506a8",
        "delivery",
        "The Retry-After of a request to slow down was forgotten when the batch had no attempt left.",
        laws.BOUNDED,
        (
            Edit(
                "delivery/retry.py",
                "        self._pacer.pause(verdict.retry_after_s or 0.0)\n        if verdict.action.has",
                "        if state.failed + 1 < self._policy.max_attempts:\n"
                "            self._pacer.pause(verdict.retry_after_s or 0.0)\n        if verdict.action.has",
            ),
        ),
        needs=("retry-after",),
    ),
    Bug(
        "later-points-pass",
        "aac4594",
        "delivery",
        "Later points of a series passed one that was undelivered, unless the destination was remote write.",
        laws.ORDER,
        (
            Edit(
                "delivery/sender.py",
                "self._skip_blocked(batch) if self._blocked_series else batch",
                "self._skip_blocked(batch) if self._blocked_series and self._destination.ordered else batch",
            ),
        ),
    ),
    Bug(
        "poison-keeps-its-batch",
        "d77939d",
        "delivery",
        "A point at which the receiver always fails kept all points of its batch undelivered.",
        laws.ACCOUNTED,
        (
            Edit(
                "delivery/sender.py",
                "        if self._has_failed(verdict):\n",
                "        if self._has_failed(verdict) and not batch:\n",
            ),
        ),
        needs=("poison",),
    ),
    Bug(
        "stopped-goes-on",
        "aac4594",
        "delivery",
        "After a refusal of everything the next events of a warm instance asked again at once.",
        laws.BOUNDED,
        (
            Edit(
                "delivery/exchange.py",
                "                if stops:\n                    self._cool_down.start(verdict)\n",
                "",
            ),
        ),
        needs=("code|code in a row|status before|key changed|impostor",),
    ),
)

_RECEIVER = (
    Bug(
        "unreachable-is-uncertain",
        "d6a06d4",
        "destinations",
        "Points of a request that never left counted as sent, so MF_UNCERTAIN=hold kept them back for good.",
        laws.ACCOUNTED,
        (
            Edit(
                "destinations/http.py",
                '        return Verdict(Action.HOLD_OFF, fault.value, f"no connection to',
                '        return Verdict(Action.RESEND, fault.value, f"no connection to',
            ),
        ),
        needs=("receiver", "hold", "unreachable|name server hangs"),
    ),
    Bug(
        "code-beside-other-text-unread",
        "e88ce29",
        "destinations",
        "A success with a message in GBK or with a raw tab was taken for a reply that broke off, and sent again.",
        laws.TWICE,
        (
            Edit(
                "put_monitor_data/replies.py",
                "        decoded = _read_leniently(body)\n    code",
                "        decoded = None\n    code",
            ),
            Edit(
                "put_monitor_data/replies.py",
                'stripped.startswith(b"{") and _read_leniently(body) is None',
                'stripped.startswith(b"{")',
            ),
        ),
        needs=("receiver",),
    ),
    Bug(
        "age-by-the-own-clock",
        "e88ce29",
        "pipeline",
        "The age of a point was judged by the instance's clock, though the receiver's replies had shown it to be wrong.",
        laws.ACCOUNTED,
        (
            Edit(
                "pipeline.py",
                "if may_ask else clock_check.known_s()",
                "if may_ask else (clock_check.known_s() and 0.0)",
            ),
        ),
        needs=("receiver", "clock jump|receiver clock"),
    ),
    Bug(
        "a-changed-key-is-another-place",
        "b145125",
        "destinations",
        "After the key was changed, points that had been delivered with the old one were sent again.",
        laws.TWICE,
        (
            Edit(
                "destinations/receiver.py",
                'self.scope = f"receiver {parts.netloc} {region}"',
                'key = getattr(credentials, "_credentials", None)\n'
                '        self.scope = f"receiver {parts.netloc} {region} {key and key.secret_key.reveal()}"',
            ),
        ),
        needs=("receiver", "key changed"),
    ),
)

_REMOTE_WRITE = (
    Bug(
        "a-page-is-a-success",
        "c7e76d0",
        "destinations",
        "A sign-in page or an error in JSON with the status 200 counted as delivered.",
        laws.DELIVERED,
        (
            Edit(
                "destinations/remote_write.py",
                "    if rule.action is Action.ACCEPT and reply.body and (contradiction := _contradiction(reply)):\n",
                "    if rule.action is Action.STOP and reply.body and (contradiction := _contradiction(reply)):\n",
            ),
        ),
        needs=("remote write", "garbage before|garbage after"),
    ),
    Bug(
        "any-2xx-is-a-success",
        "c7e76d0",
        "destinations",
        "A status that says that nothing, or only a part, was stored (205 to 299) counted as delivered.",
        laws.DELIVERED,
        (
            Edit(
                "destinations/remote_write.py",
                "_SUCCESSES = frozenset({200, 201, 202, 203, 204})",
                "_SUCCESSES = frozenset(range(200, 300))",
            ),
        ),
        needs=("remote write", "status before"),
    ),
    Bug(
        "what-takes-anything-is-believed",
        "c7e76d0",
        "destinations",
        "Whatever answers success to any request counted as remote write, so its success counted as delivered.",
        laws.DELIVERED,
        (
            Edit(
                "destinations/remote_write_proof.py",
                "        self._standing = _Standing.PROVEN if is_off else _Standing.UNKNOWN\n",
                "        self._standing = _Standing.PROVEN\n",
            ),
        ),
        needs=("remote write", "impostor"),
    ),
    Bug(
        "a-path-that-refuses-all-rejects-all",
        "98963f1",
        "destinations",
        "A path that answers 400 to whatever it is sent made every point rejected.",
        laws.ACCOUNTED,
        (
            Edit(
                "destinations/remote_write.py",
                "        if verdict.action is Action.SPLIT and len(batch) == 1 and verdict.label not in _KNOWN_LABELS:\n",
                "        if verdict.action is Action.STOP and len(batch) == 0:\n",
            ),
        ),
        needs=("remote write", "impostor"),
    ),
    Bug(
        "wrong-path-of-victoriametrics-rejects",
        "8aa1576",
        "destinations",
        "VictoriaMetrics' 400 for a wrong path rejected every point.",
        laws.ACCOUNTED,
        (
            Edit(
                "destinations/remote_write.py",
                "        if _is_unknown_path(text):\n            rule = _URL\n",
                "",
            ),
            Edit(
                "destinations/remote_write_proof.py",
                "            if not _is_success(reply):\n                return Verdict(Action.STOP, NOT_REMOTE_WRITE, _REFUSES_ALL, reply.status)\n",
                "",
            ),
        ),
        needs=("remote write", "impostor"),
    ),
    Bug(
        "given-times-go-back",
        "e19e771",
        "intake",
        "Points without a time got times before those that the series had got in the event before, and were refused.",
        laws.ORDER,
        (
            Edit(
                "pipeline.py",
                "        if self._sender.destination.carries_timestamps:\n",
                "        if not self._sender.destination.carries_timestamps:\n",
            ),
        ),
        needs=("remote write",),
    ),
    Bug(
        "one-request-holds-a-series-twice",
        "0dee759",
        "delivery",
        "A request held several points of a series, so that the reply to a repeated request was not true for all of them.",
        laws.DELIVERED,
        (
            Edit(
                "delivery/sender.py",
                "pack(self._in_order(points), self._sender.limits, one_per_series=ordered)",
                "pack(points, self._sender.limits, one_per_series=ordered and not points)",
            ),
        ),
        needs=("remote write",),
    ),
    Bug(
        "a-wrong-clock-silences-a-series",
        "7003286",
        "intake",
        "A point stamped an hour ahead made Prometheus refuse every later one until real time caught up.",
        laws.ORDER,
        (
            Edit(
                "intake/given_times.py",
                "        self.latest_ns = self._now_ns + round(max_ahead_s * NS_PER_S) if max_ahead_s else",
                "        self.latest_ns = self._now_ns + round(max_ahead_s * NS_PER_S) if max_ahead_s < 0 else",
            ),
        ),
        needs=("remote write",),
    ),
)

_DEDUPE = (
    Bug(
        "a-duplicate-does-not-renew",
        "700b22a",
        "dedupe",
        "An event that was redelivered for longer than the window sent its delivered points again.",
        laws.TWICE,
        (
            Edit(
                "dedupe/store.py",
                "        self.confirm(with_claim(identities, claims, _DELIVERED))\n",
                "",
            ),
        ),
    ),
    Bug(
        "what-is-held-is-sent-again",
        "700b22a",
        "settlement",
        "A point held as uncertain was sent again when its event came back because of another one.",
        laws.TWICE,
        (
            Edit(
                "settlement.py",
                "                self._claims.mark_uncertain(identities)\n",
                "                self._unsent += identities\n",
            ),
        ),
        needs=("hold",),
    ),
    Bug(
        "what-is-held-does-not-renew",
        "700b22a",
        "dedupe",
        "A held point of an event that came again for longer than the window was sent again.",
        laws.TWICE,
        (
            Edit(
                "dedupe/store.py",
                "        self.mark_uncertain(with_claim(identities, claims, _UNCERTAIN))\n",
                "",
            ),
        ),
        needs=("hold", "memory", "short window"),
    ),
    Bug(
        "what-was-rejected-is-asked-again",
        "42fb606",
        "settlement",
        "A redelivered event searched for the same bad points each time.",
        laws.BOUNDED,
        (
            Edit(
                "settlement.py",
                "                self._claims.mark_rejected(identities, rejection)\n"
                "                self._rejected.setdefault",
                "                self._rejected.setdefault",
            ),
            # What is told again at the end of an event would hide it.
            Edit(
                "settlement.py",
                "                self._claims.mark_rejected(identities, rejection)\n        for point, verdict",
                "                del identities, rejection\n        for point, verdict",
            ),
        ),
    ),
    Bug(
        "the-id-alone-is-the-identity",
        "7003286",
        "dedupe",
        "Every value after the first of a constant id was lost as a duplicate.",
        laws.ACCOUNTED,
        (
            Edit(
                "dedupe/identity.py",
                '                text = f"#{key}" if time_ns is None else f"@{time_ns}#{key}"\n',
                '                found.append(hashlib.blake2b(f"#{key}".encode()).digest()[:DIGEST_BYTES])\n'
                "                continue\n",
            ),
        ),
    ),
    Bug(
        "a-changed-setting-forgets",
        "5c6a461",
        "bootstrap",
        "Another log level emptied the memory of what was delivered.",
        laws.TWICE,
        (
            Edit(
                "bootstrap.py",
                "lambda read: MemoryStore(read.dedupe_window_s, machine.clock.monotonic))",
                "lambda read: MemoryStore(read.dedupe_window_s, machine.clock.monotonic), settings)",
            ),
        ),
        needs=("new settings|key changed",),
    ),
)

_PIPELINE = (
    Bug(
        "delivered-and-then-stale",
        "34600db",
        "pipeline",
        "A redelivered point that had been delivered while it was young was called lost, as stale.",
        laws.ACCOUNTED,
        (
            Edit(
                "pipeline.py",
                "        held = settlement.settle_repeated(intake.points)\n",
                "        held = settlement.settle_stale(settlement.settle_repeated(intake.points), intake.stale)\n",
            ),
        ),
    ),
    Bug(
        "undelivered-is-only-a-warning",
        "9276b9a",
        "reporting",
        "Undelivered points of a trigger that gives up after two attempts were no ERROR in the log.",
        laws.ACCOUNTED,
        (
            Edit(
                "reporting/report.py",
                "    if not is_redelivered:\n",
                "    if is_redelivered is None:\n",
            ),
        ),
    ),
    Bug(
        "a-dead-letter-comes-again",
        "b19977e",
        "triggers",
        "Undelivered points of a CKafka event inside a dead letter were logged as if CKafka brought them again.",
        laws.ACCOUNTED,
        (
            Edit(
                "triggers/traits.py",
                "    return inside._replace(redelivery=DEAD_LETTER.redelivery, reply_to=DEAD_LETTER.reply_to, is_payload=False)",
                "    return inside._replace(reply_to=DEAD_LETTER.reply_to, is_payload=False)",
            ),
        ),
    ),
    Bug(
        "a-line-that-cannot-be-written",
        "134f6cd",
        "reporting",
        "A log line that could not be written made an event fail whose points were delivered.",
        laws.SOUND,
        (
            Edit(
                "reporting/log.py",
                "        except Exception:  # noqa: BLE001 - whatever a runtime's stream raises\n",
                "        except UnicodeEncodeError:\n",
            ),
        ),
        needs=("log fails",),
    ),
    Bug(
        "two-events-at-once",
        "e3780ca",
        "bootstrap",
        "Two events that an instance got at once met in what it remembers.",
        laws.SOUND,
        (
            Edit(
                "bootstrap.py",
                "        if not self._lock.acquire(timeout=limit_s / 2):\n            raise InstanceBusy\n",
                "        if limit_s < 0:\n            raise InstanceBusy\n",
            ),
            Edit(
                "bootstrap.py",
                "            yield\n        finally:\n            self._lock.release()\n",
                "            yield\n        finally:\n            pass\n",
            ),
        ),
    ),
    Bug(
        "each-delivery-takes-in-the-same",
        "a771101",
        "intake",
        "On a slow processor each delivery took in the same first messages and stopped there: the event came for a week.",
        laws.REST,
        (
            Edit(
                "pipeline.py",
                "            yield progress.rest(decoded.messages), policy()\n",
                "            yield decoded.messages, policy()\n",
            ),
        ),
    ),
    Bug(
        "basic-is-not-asked-for",
        "51db733",
        "triggers",
        "A client that sends its password only after a reply that asks for Basic never got in.",
        laws.REST,
        (
            Edit(
                "triggers/http.py",
                '_CHALLENGE = {"WWW-Authenticate": \'Bearer, Basic realm="metric-forwarder"\'}',
                '_CHALLENGE = {"WWW-Authenticate": "Bearer"}',
            ),
        ),
    ),
    Bug(
        "a-message-makes-it-fetch",
        "d70a072",
        "triggers",
        "Whoever could write to a topic could make the function fetch any object with its role's signature.",
        laws.SECRETS,
        (
            Edit(
                "triggers/dead_letter.py",
                "return decode(body, context.in_message()).messages if matches(body) else None",
                "return decode(body, context.nested()).messages if matches(body) else None",
            ),
        ),
    ),
)

_REDIS = (
    Bug(
        "free-points-pass-held-ones",
        "e88ce29",
        "pipeline",
        "A free point was sent while another instance still sent an earlier one of its series.",
        laws.ORDER,
        (
            Edit(
                "pipeline.py",
                "        (waiting if place > first_held.get(point.series.digest, place) else ours).append(point)\n",
                "        ours.append(point)\n",
            ),
        ),
        needs=("redis",),
    ),
    Bug(
        "no-thread-for-redis-raises",
        "aef4b70",
        "dedupe",
        "An instance without a free thread for Redis ended the event with an exception.",
        laws.SOUND,
        (
            Edit(
                "dedupe/redis.py",
                "                except RuntimeError:\n                    self._degrade(",
                "                except ZeroDivisionError:\n                    self._degrade(",
            ),
        ),
        needs=("redis", "no threads"),
    ),
    Bug(
        "each-event-hangs-another-thread",
        "3c79c34",
        "dedupe",
        "While Redis hung, each event left another thread behind.",
        laws.THREADS,
        (
            Edit(
                "dedupe/redis.py",
                "        is_stuck = self._stuck is not None and self._stuck.is_busy\n",
                "        is_stuck = False\n",
            ),
        ),
        needs=("redis", "redis hangs"),
    ),
    Bug(
        "an-odd-reply-is-no-reply",
        "3c79c34",
        "dedupe",
        "A reply of Redis that makes no sense passed as if nothing had been said: no lease, and not degraded.",
        laws.TWICE,
        (
            Edit(
                "dedupe/redis.py",
                "        if reply is None and self._degraded:\n",
                "        if not isinstance(reply, bytes) or len(reply) < len(chunk):\n",
            ),
        ),
        needs=("redis", "redis garbage"),
    ),
    Bug(
        "an-odd-mark-raises",
        "42fb606",
        "dedupe",
        "A mark in Redis that no version writes ended the event with an exception.",
        laws.SOUND,
        (
            Edit(
                "dedupe/redis.py",
                "        if marks.strip(_MARKS) or len(marks) != len(chunk)",
                "        if len(marks) != len(chunk)",
            ),
        ),
        needs=("redis", "redis garbage"),
    ),
    Bug(
        "held-in-this-instance-alone",
        "700b22a",
        "dedupe",
        "A point held as uncertain by one instance was sent again by another.",
        laws.TWICE,
        (
            Edit(
                "dedupe/redis.py",
                "        self._store.memory.mark_uncertain(identities)\n        self._write_soon(_UNCERTAIN, identities)\n",
                "        self._store.memory.mark_uncertain(identities)\n",
            ),
        ),
        needs=("redis", "hold"),
    ),
    Bug(
        "rejected-in-this-instance-alone",
        "42fb606",
        "dedupe",
        "A point that one instance knew as rejected was asked about again by another.",
        laws.BOUNDED,
        (
            Edit(
                "dedupe/redis.py",
                "        self._write_soon(self._store.mark_of(rejection), identities)\n",
                "",
            ),
        ),
        needs=("redis",),
    ),
    Bug(
        "known-here-and-forgotten-there",
        "700b22a",
        "dedupe",
        "A point that an instance knew itself ran out in Redis, and another instance sent it again.",
        laws.TWICE,
        (
            Edit(
                "dedupe/redis.py",
                "        self._write_soon(_DELIVERED, with_claim(identities, remembered, Claim.DELIVERED))\n",
                "",
            ),
        ),
        needs=("redis", "short window"),
    ),
    Bug(
        "a-broken-connection-is-not-replaced",
        "8ed4cea",
        "dedupe",
        "A connection that broke while the instance was idle cost the event its shared memory.",
        laws.TWICE,
        (
            Edit(
                "dedupe/redis.py",
                "            if not unavailable.reconnect or self._reconnected:\n                raise\n",
                "            raise\n",
            ),
        ),
        needs=("redis", "redis resets"),
    ),
    Bug(
        "another-log-level-forgets-what-hangs",
        "08b893e",
        "bootstrap",
        "Another log level made an instance forget that its store in Redis hangs: the next event left another thread behind.",
        laws.THREADS,
        (
            Edit(
                "bootstrap.py",
                "        memory,\n        function,\n    )\n    spool = keep",
                "        memory,\n        function,\n        settings.log_level,\n    )\n    spool = keep",
            ),
        ),
        needs=("redis", "redis hangs", "new settings"),
    ),
)

_SPOOL = (
    Bug(
        "the-spool-is-waited-for",
        "b2cdc1f",
        "spool",
        "A file system that hangs held the function past its limit.",
        laws.IN_TIME,
        (
            Edit(
                "spool/bounded.py",
                "            return future.result(wait_s)\n",
                "            return future.result(1e6 + wait_s)\n",
            ),
        ),
        needs=("spool",),
    ),
    Bug(
        "no-thread-for-the-spool-raises",
        "1d26b6f",
        "spool",
        "An instance without a free thread for the spool ended the event with an exception.",
        laws.SOUND,
        (
            Edit(
                "spool/bounded.py",
                "        except RuntimeError:\n            raise SpoolError(",
                "        except ZeroDivisionError:\n            raise SpoolError(",
            ),
        ),
        needs=("spool", "no threads"),
    ),
    Bug(
        "a-failed-acknowledgement-is-forgotten",
        "8feaaaa",
        "spool",
        "An acknowledgement that a full disk did not take was never written, and its points were sent again.",
        laws.TWICE,
        (
            Edit(
                "spool/spool_file.py",
                "        self._unwritten += sorted(new)\n",
                "        self._unwritten = sorted(new)\n",
            ),
        ),
        needs=("spool in files",),
    ),
    Bug(
        "a-torn-acknowledgement-joins-the-next",
        "b2cdc1f",
        "spool",
        "A row that a full disk had cut off became the beginning of the next one, and a point was lost.",
        laws.ACCOUNTED,
        (
            Edit(
                "spool/spool_file.py",
                "            file.truncate(self._whole)\n            file.seek(self._whole)\n",
                "            file.seek(self._files.status(rows).st_size)\n",
            ),
        ),
        needs=("spool in files",),
    ),
    Bug(
        "a-file-that-stays-is-replayed-again",
        "b11af93",
        "spool",
        "A file that could not be removed was replayed again and again.",
        laws.TWICE,
        (
            Edit(
                "spool/spool_file.py",
                "            except OSError:\n                if not self._unwritten:\n                    raise\n",
                "            except OSError:\n                raise\n",
            ),
        ),
        needs=("spool in files",),
    ),
    Bug(
        "an-odd-file-stops-the-replay",
        "287e9f1",
        "spool",
        "A torn or foreign file ended each replay, so nothing behind it was ever delivered.",
        laws.REST,
        (
            Edit(
                "spool/files.py",
                "        except OddFile as odd:\n            self._broken.append(set_aside(self._system, path, odd))\n",
                "        except OddFile as odd:\n            raise OSError(5, str(odd)) from None\n",
            ),
            Edit(
                "spool/files.py",
                "        except (OSError, ValueError) as error:\n"
                "            self._broken.append(set_aside(self._system, path, odd_file(error)))\n",
                "        except ValueError as error:\n            raise OSError(5, str(error)) from None\n",
            ),
        ),
        needs=("spool in files",),
    ),
    Bug(
        "a-letter-without-room-is-acknowledged",
        "0df19cb",
        "spool",
        "A record whose dead letter found no room was acknowledged, and lost.",
        laws.ACCOUNTED,
        (
            Edit(
                "spool/policies.py",
                "        if (is_part or not self._chunk.dead) and not self._letters.add(letter):\n"
                "            self._staying.add(receipt)\n",
                "        if is_part or not self._chunk.dead:\n            self._letters.add(letter)\n",
            ),
        ),
        needs=("spool",),
    ),
    Bug(
        "a-counted-file-may-vanish",
        "b2cdc1f",
        "spool",
        "A write beside a replay failed when a file vanished that it was counting.",
        laws.ACCOUNTED,
        (
            Edit(
                "spool/files.py",
                "            with contextlib.suppress(FileNotFoundError):\n"
                "                status = self._system.status(",
                "            with contextlib.suppress(ZeroDivisionError):\n"
                "                status = self._system.status(",
            ),
        ),
        needs=("spool in files",),
    ),
    Bug(
        "a-removed-file-ends-the-replay",
        "ee8c3a4",
        "spool",
        "A replay ended when one of its files was removed meanwhile.",
        laws.REST,
        (
            Edit(
                "spool/files.py",
                "        except FileNotFoundError:\n            # It was removed meanwhile; the files after it still exist.\n            return\n",
                "        except FileNotFoundError:\n            raise OSError(5, 'gone') from None\n",
            ),
        ),
        needs=("spool in files",),
    ),
    Bug(
        "an-unread-spool-is-empty",
        "b2cdc1f",
        "reporting",
        "A replay that could not read the spool was reported as a success with nothing to do.",
        laws.ACCOUNTED,
        (
            Edit(
                "reporting/report.py",
                '    if is_unread or any(outcomes[outcome.value] for outcome in lost):\n        return "ERROR"\n',
                '    if any(outcomes[outcome.value] for outcome in lost):\n        return "ERROR"\n',
            ),
        ),
        needs=("spool",),
    ),
    Bug(
        "a-lost-answer-is-written-twice",
        "b2cdc1f",
        "spool",
        "A write to Redis whose answer was lost was written twice.",
        laws.TWICE,
        (
            Edit(
                "spool/redis.py",
                "            self._connection.close()\n            if not error.reconnect:\n                raise\n",
                "            self._connection.close()\n            if not error.reconnect:\n                raise\n"
                "            keys = [*keys[:3], keys[-1] + b'again'] if len(keys) == 4 else keys\n",
            ),
        ),
        needs=("spool in redis", "redis resets"),
    ),
    Bug(
        "a-full-redis-cannot-be-emptied",
        "3486e88",
        "spool",
        "A Redis that the spool had filled took no lease, so the replay that would free its memory never began.",
        laws.REST,
        (
            Edit(
                "spool/redis.py",
                "            if not error.is_full:\n                raise\n            # Also",
                "            raise\n            # Also",
            ),
        ),
        needs=("spool in redis", "redis full"),
    ),
    Bug(
        "the-reserve-is-given-up-for-anything",
        "18d06cc",
        "spool",
        "Whatever kept a replay from its lease cost the reserve, so a full Redis could not be emptied later.",
        laws.REST,
        (
            Edit(
                "spool/redis.py",
                "            if not error.is_full:\n                raise\n            # Also",
                "            if error.is_wrong_type:\n                raise\n            # Also",
            ),
        ),
        needs=("spool in redis",),
    ),
)

# The simulated world itself found these.
_FOUND_BY_THE_WORLD = (
    Bug(
        "a-cut-message-is-begun-again",
        "7f0f665",
        "intake",
        "Where time was up in the middle of a message, each delivery took in the same messages, and the event came for a week.",
        laws.REST,
        (
            Edit(
                "intake/exclusions.py",
                "        self.stopped_at = message, first_row\n",
                "        if first_row == self._ledger.received:\n            self.stopped_at = message, first_row\n",
            ),
        ),
    ),
    Bug(
        "another-event-clears-the-suspicion",
        "dc691bd",
        "delivery",
        "A point at which the destination fails kept the others of its batch, if another event came between its deliveries.",
        laws.ACCOUNTED,
        (
            Edit(
                "delivery/guesses.py",
                "        since = self._clock.monotonic() - _REMEMBERED_S\n",
                "        since = self._clock.monotonic() - _REMEMBERED_S\n"
                "        self._events = {key: at for key, at in self._events.items() if any(_key(p) == key for p in points)}\n",
            ),
        ),
        needs=("poison",),
    ),
    Bug(
        "a-batch-that-always-fails-keeps-the-next",
        "8ff4528",
        "delivery",
        "A batch of nothing but points at which the destination fails kept the batches behind it for ever.",
        laws.ACCOUNTED,
        (
            Edit(
                "delivery/sender.py",
                "                guesses.append((self._guesses.choose(free), lane))\n",
                "                guesses.append((self._guesses.choose(free[: self._sender.limits.max_points]), lane))\n",
            ),
        ),
    ),
    Bug(
        "refused-halves-never-tried",
        "0784cbf",
        "delivery",
        "An event that was refused as too many began with the same size at each delivery, and came again for ever.",
        laws.REST,
        (Edit("delivery/batching.py", "        if self._untried:\n", "        if self._untried < 0:\n"),),
        needs=("receiver", "small requests|code in a row"),
    ),
    Bug(
        "a-hanging-proof-holds-all-up",
        "3a9ca80",
        "destinations",
        "A thread that asked whether the endpoint takes remote write hung, and each later event waited for it.",
        laws.REST,
        (
            Edit(
                "destinations/remote_write_proof.py",
                "        if self.is_proven or not self._lock.acquire(timeout=timeout_s / 2):\n            return None\n",
                "        if not self._lock.acquire(timeout=1e6 + timeout_s):\n            return None\n",
            ),
        ),
        needs=("remote write", "name server hangs"),
    ),
    Bug(
        "each-event-hangs-another-spool",
        "1abbd5a",
        "spool",
        "While the spool hung, each event left another thread behind.",
        laws.THREADS,
        (
            Edit(
                "spool/bounded.py",
                "        if len(self._stuck) == _MOST_STUCK:\n            raise",
                "        if len(self._stuck) < 0:\n            raise",
            ),
        ),
        needs=("spool", "redis hangs|disk hangs"),
    ),
    Bug(
        "a-frozen-replay-keeps-its-lock",
        "9c02917",
        "spool",
        "A frozen instance kept the lock of its replay, and no other replay began.",
        laws.REST,
        (
            Edit(
                "spool/files.py",
                "                is_left = self._is_left(path)\n",
                "                is_left = self._system.status(path).st_mtime < -_LEASE_S\n",
            ),
        ),
        needs=("spool in files",),
    ),
    Bug(
        "a-passing-failure-forgets-acknowledgements",
        "2a4fe44",
        "spool",
        "Acknowledgements that could not be read for a moment were taken for none, and their points were sent again.",
        laws.TWICE,
        (
            Edit(
                "spool/spool_file.py",
                "            if odd.is_passing:\n                raise\n",
                "",
            ),
        ),
        needs=("spool in files",),
    ),
    Bug(
        "a-folder-without-a-durable-name",
        "2a4fe44",
        "spool",
        "Points were called spooled in a folder that a crash of the disk could undo.",
        laws.ACCOUNTED,
        (
            Edit(
                "spool/files.py",
                "        elif self._is_durable:\n            return\n",
                "        else:\n            return\n",
            ),
        ),
        needs=("spool in files", "disk crashes"),
    ),
)

BUGS = (
    *_DELIVERY,
    *_RECEIVER,
    *_REMOTE_WRITE,
    *_DEDUPE,
    *_PIPELINE,
    *_REDIS,
    *_SPOOL,
    *_FOUND_BY_THE_WORLD,
)

# Why the world does not find an old bug.
MISSES: Mapping[str, str] = {
    "a-letter-without-room-is-acknowledged": "masked: a chunk of a replay holds less than the dead letters of an event may take",
    "refused-halves-never-tried": "masked since 5e42169: after a minute without a request an instance has no pause, and tries the halves",
    "a-removed-file-ends-the-replay": "a file must go between the listing and the reading of a replay, which was not met",
    "a-lost-answer-is-written-twice": "met by luck: an earlier run found it after 3,866 seeds",
    "a-hanging-proof-holds-all-up": "what hangs in the world goes on after 400 s, and the events that waited come again",
}
