"""Decisions and rewards as records of an Amazon Data Firehose stream, one JSON object on a line each, for training.

A request never waits for Firehose: records are sent by a thread, many at a time, and sent again when that fails. Those
for which there is no more room, or no more attempt, are lost, and the log says how many.
"""

import json
import queue
import sys
import threading
import time

ROOM = 10000  # records that wait to be sent
AT_ONCE = 50  # records of one call; Firehose takes 500
SECONDS = 0.2  # the longest that a record waits for company
ATTEMPTS, PAUSE = 5, 0.1  # the pause doubles with each attempt


def complain(sentence):
    """One line in the container's log."""
    sys.stderr.write("rlimages: " + sentence + "\n")
    sys.stderr.flush()


class LogError(Exception):
    """A log was asked for that cannot be kept: one sentence."""


def from_environment(environ):
    """The log that LOG_INFERENCE_DATA and FIREHOSE_STREAM ask for, or None. Raises LogError."""
    if environ.get("LOG_INFERENCE_DATA", "").strip().lower() != "true":
        return None
    stream = environ.get("FIREHOSE_STREAM", "").strip()
    if not stream:
        raise LogError("LOG_INFERENCE_DATA is true, but FIREHOSE_STREAM names no stream")
    try:
        import boto3

        region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None
        return DecisionLog(stream, boto3.client("firehose", region_name=region))
    except Exception as error:  # noqa: BLE001 - whatever keeps boto3 from making a client
        raise LogError("decisions cannot be logged: {}".format(" ".join(str(error).split()))) from None


class DecisionLog:
    """A stream and the thread that sends to it. `client` is boto3's, or what has its put_record_batch."""

    def __init__(self, stream, client, complain=complain, sleep=time.sleep):
        self._stream, self._client, self._complain, self._sleep = stream, client, complain, sleep
        self._waiting = queue.Queue(ROOM)
        self._full = False
        self._thread = threading.Thread(target=self._send_all, name="decision-log", daemon=True)
        self._thread.start()

    def add(self, record):
        """Take a record; False if there is no room for it."""
        try:
            self._waiting.put_nowait((json.dumps(record) + "\n").encode("utf-8"))
        except queue.Full:
            if not self._full:
                self._complain("{}: {} records wait already, further ones are lost".format(self._stream, ROOM))
            self._full = True
            return False
        self._full = False
        return True

    def close(self, seconds):
        """Send what waits, for so many seconds at most."""
        try:
            self._waiting.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _send_all(self):
        last = False
        while not last:
            records = [self._waiting.get()]
            end = time.monotonic() + SECONDS
            while records[-1] is not None and len(records) < AT_ONCE:
                try:
                    records.append(self._waiting.get(timeout=max(0, end - time.monotonic())))
                except queue.Empty:
                    break
            last = records[-1] is None
            self._send([record for record in records if record is not None])

    def _send(self, records):
        """Send these records, or the rest of them again."""
        reason = ""
        for attempt in range(ATTEMPTS):
            if not records:
                return
            if attempt:
                self._sleep(PAUSE * 2**attempt)
            try:
                batch = [{"Data": record} for record in records]
                said = self._client.put_record_batch(DeliveryStreamName=self._stream, Records=batch)
            except Exception as error:  # noqa: BLE001 - boto3 has one for each mishap
                reason = " ".join(str(error).split())
                continue
            if not said.get("FailedPutCount"):
                return
            answers = said["RequestResponses"]
            failed = [place for place, answer in enumerate(answers) if answer.get("ErrorCode")]
            reason = answers[failed[0]].get("ErrorMessage", "") if failed else ""
            records = [records[place] for place in failed]
        if records:
            self._complain("{}: {} records are lost: {}".format(self._stream, len(records), reason))
