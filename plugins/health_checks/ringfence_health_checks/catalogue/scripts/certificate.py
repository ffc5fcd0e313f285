# A server's certificate is valid, for its name, and for long enough.
#
# It needs the server in the policy's network.allow.
#
# setting host: the server
# setting port = 443: its port
# setting name = : the name that it must have a certificate for; by default the host
# setting warn_days = 21: with fewer days left it is degraded
# setting crit_days = 7: with fewer days left it is unhealthy
# setting ca = : certificates of authorities to trust (PEM), in place of the system's
# setting timeout = 10: seconds to wait
import os
import socket
import ssl
import time


def main(context):
    host, port = os.environ["CHECK_HOST"], int(os.environ.get("CHECK_PORT") or 443)
    name = os.environ.get("CHECK_NAME") or host
    warn, crit = float(os.environ.get("CHECK_WARN_DAYS") or 21), float(os.environ.get("CHECK_CRIT_DAYS") or 7)
    timeout = float(os.environ.get("CHECK_TIMEOUT") or 10)
    try:
        trust = ssl.create_default_context(cadata=os.environ.get("CHECK_CA") or None)
        with (
            socket.create_connection((host, port), timeout=timeout) as connection,
            trust.wrap_socket(connection, server_hostname=name) as secure,
        ):
            certificate = secure.getpeercert()
    except ssl.SSLCertVerificationError as error:
        return {"status": "unhealthy", "message": f"{host}:{port}: {error.verify_message}"}
    except (OSError, ValueError) as error:
        return {"status": "unhealthy", "message": f"{host}:{port}: {error}"}
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / 86400
    state = "unhealthy" if days < crit else "degraded" if days < warn else "healthy"
    return {
        "status": state,
        "message": f"the certificate of {name} expires in {days:.0f} days ({certificate['notAfter']})",
        "metrics": {
            "days": {"value": round(days, 2), "unit": "d", "warn": f"{warn:g}:", "crit": f"{crit:g}:"}
        },
    }
