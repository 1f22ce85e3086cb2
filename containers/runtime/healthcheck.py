"""Asks the health port of this container whether it is ready: exit status 0, or 1 and why. One argument, the port."""

import http.client
import json
import sys


def main(port: int) -> int:
    """Return the exit status for Docker."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
    try:
        connection.request("GET", "/v1/health/ready")
        answer = connection.getresponse()
        message = json.loads(answer.read()).get("message", "")
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(f"the health port {port} does not answer: {error}")
        return 1
    print(message)
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
