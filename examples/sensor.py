#!/usr/bin/env python3
"""Tells Claude when this machine gets too hot or too busy, and prints what Claude answers."""
import argparse, json, os, pathlib, re, socket, sys, time, uuid
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

HOST = socket.gethostname()
LINES = {"temperature": (65, 70, " °C"), "load": (2, 4, "")}  # too high above the second, until below the first
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
parser.add_argument("--url", default="ws://127.0.0.1:3100", help="the server; a token is taken from SENSOR_TOKEN")
parser.add_argument("--session", default=f"sensor-{HOST}", help="the session to talk in")
parser.add_argument("--every", type=float, default=10, help="seconds from one look to the next")
parser.add_argument("--pause", type=float, default=60, help="seconds from one message to the next, at least")
parser.add_argument("--switch", type=pathlib.Path, help="a file that gets 1 or 0 when Claude answers on or off")
parser.add_argument("--root", type=pathlib.Path, default="/", help="the folder in which proc and sys are")
options = parser.parse_args()
high, told, unacknowledged, next_message, next_look = {}, {}, {}, 0, 0


def look():
    values = {"load": float((options.root / "proc/loadavg").read_text().split()[0])}
    for zone in options.root.glob("sys/class/thermal/thermal_zone*/temp"):
        try: values["temperature"] = max(values.get("temperature", -273), int(zone.read_text()) / 1000)
        except (OSError, ValueError): pass  # a sensor that is switched off
    high.update({name: value > LINES[name][0 if high.get(name) else 1] for name, value in values.items()})
    states = [f"{name} {value:g}{LINES[name][2]} ({'too high' if high[name] else 'all right'})" for name, value in values.items()]
    return f"{HOST}: {', '.join(states)}. Answer on or off to switch the fan." if options.switch else f"{HOST}: {', '.join(states)}."


def hear(message):
    if message["type"] == "delivery": unacknowledged.pop(message["id"], None)
    if message["type"] in ("reply", "error"): print(message.get("content") or message["message"], flush=True)
    words = set(re.findall(r"\b(on|off)\b", message["content"].lower())) if message["type"] == "reply" else ()
    if options.switch and len(words) == 1: options.switch.write_text("1" if words == {"on"} else "0")


while True:
    try:
        headers = {"Authorization": f"Bearer {os.environ['SENSOR_TOKEN']}"} if os.environ.get("SENSOR_TOKEN") else {}
        with connect(f"{options.url}/?session={options.session}", additional_headers=headers) as server:
            for message in unacknowledged.values(): server.send(message)  # the server takes each once
            while True:
                if time.monotonic() >= next_look:
                    next_look, words = time.monotonic() + options.every, look()
                    if any(high[name] != told.get(name, False) for name in high) and time.monotonic() >= next_message:
                        told.update(high)
                        next_message, key = time.monotonic() + options.pause, str(uuid.uuid4())
                        unacknowledged[key] = json.dumps({"type": "message", "id": key, "content": words})
                        server.send(unacknowledged[key])
                try: hear(json.loads(server.recv(timeout=max(0, next_look - time.monotonic()))))
                except TimeoutError: pass
    except InvalidStatus as refused: sys.exit(f"{options.url} refuses: {refused.response.body.decode()}")
    except (OSError, ConnectionClosed) as lost: print(f"{options.url}: {lost}; trying again", file=sys.stderr); time.sleep(5)
