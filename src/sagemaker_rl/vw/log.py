"""Send decisions and rewards to an Amazon Data Firehose stream for training, one JSON object a line.

A request never waits for Firehose. A thread sends records in batches and retries a failed batch. Records are lost if
the queue is full or all attempts fail; the log then says how many.
"""

import json
import queue
import sys
import threading
import time

QUEUE_SIZE = 10000  # records that may wait to be sent
BATCH = 50  # records of one call; Firehose accepts 500
BATCH_SECONDS = 0.2  # the longest time that a record waits for others of its batch
ATTEMPTS, PAUSE = 5, 0.1  # seconds; the pause doubles with each attempt


def warn(sentence):
    """Write `sentence` as one line to the container's log."""
    sys.stderr.write("rlimages: " + sentence + "\n")
    sys.stderr.flush()


class LogError(Exception):
    """The requested log cannot be written. The message is one sentence."""


def from_environment(environ):
    """Return the DecisionLog that LOG_INFERENCE_DATA and FIREHOSE_STREAM in `environ` ask for, or None.

    Raises LogError if the stream has no name or the client of Firehose cannot be created.
    """
    if environ.get("LOG_INFERENCE_DATA", "").strip().lower() != "true":
        return None
    stream = environ.get("FIREHOSE_STREAM", "").strip()
    if not stream:
        raise LogError("LOG_INFERENCE_DATA is true, but FIREHOSE_STREAM names no stream")
    try:
        import boto3

        region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None
        return DecisionLog(stream, boto3.client("firehose", region_name=region))
    except Exception as error:  # noqa: BLE001 - boto3 raises many kinds
        raise LogError("decisions cannot be logged: {}".format(" ".join(str(error).split()))) from None


class DecisionLog:
    """A log of decisions and rewards in the Firehose stream named `stream`, with the thread that sends to it.

    `client` is boto3's Firehose client. `warn` writes a sentence about lost records, and `sleep` pauses for some
    seconds.
    """

    def __init__(self, stream, client, warn=warn, sleep=time.sleep):
        self._stream, self._client, self._warn, self._sleep = stream, client, warn, sleep
        self._queue = queue.Queue(QUEUE_SIZE)
        self._full = False
        self._thread = threading.Thread(target=self._send_all, name="decision-log", daemon=True)
        self._thread.start()

    def add(self, record):
        """Queue `record`, a dictionary that becomes one line of JSON. Return False if the queue is full, else True."""
        try:
            self._queue.put_nowait((json.dumps(record) + "\n").encode("utf-8"))
        except queue.Full:
            if not self._full:
                self._warn("{}: {} records are waiting, further ones are lost".format(self._stream, QUEUE_SIZE))
            self._full = True
            return False
        self._full = False
        return True

    def close(self, seconds):
        """Send the queued records and end the thread.

        Waits at most `seconds` for room in a full queue, and then `seconds` for the thread.
        """
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _send_all(self):
        last = False
        while not last:
            records = [self._queue.get()]
            end = time.monotonic() + BATCH_SECONDS
            while records[-1] is not None and len(records) < BATCH:
                try:
                    records.append(self._queue.get(timeout=max(0, end - time.monotonic())))
                except queue.Empty:
                    break
            last = records[-1] is None
            self._send([record for record in records if record is not None])

    def _send(self, records):
        """Send `records`, a list of bytes, in up to ATTEMPTS calls, and warn of lost records.

        Each further call sends only the records that failed before.
        """
        reason = ""
        for attempt in range(ATTEMPTS):
            if not records:
                return
            if attempt:
                self._sleep(PAUSE * 2**attempt)
            try:
                batch = [{"Data": record} for record in records]
                response = self._client.put_record_batch(DeliveryStreamName=self._stream, Records=batch)
            except Exception as error:  # noqa: BLE001 - boto3 raises many kinds
                reason = " ".join(str(error).split())
                continue
            if not response.get("FailedPutCount"):
                return
            results = response["RequestResponses"]
            failed = [place for place, answer in enumerate(results) if answer.get("ErrorCode")]
            reason = results[failed[0]].get("ErrorMessage", "") if failed else ""
            records = [records[place] for place in failed]
        if records:
            self._warn("{}: {} records are lost: {}".format(self._stream, len(records), reason))
