#!/bin/bash
# Whether the server has models to answer with. Exit status 0 says yes.
#
#     ready.sh          every model of models.config has an AVAILABLE version
#     ready.sh any      one of them has
#
# The stock image has no curl, but bash, which opens sockets itself. The answer's status would not
# do: GET /v1/models/NAME is 200 as soon as the server knows the model, also while it loads, after
# loading failed, and after it was unloaded.
set -u
config="${BASH_SOURCE[0]%/*}/models.config"
port="${REST_API_PORT:-8501}"

available() {
  {
    printf 'GET /v1/models/%s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$1" >&3
    grep -q '"state": *"AVAILABLE"' <&3
  } 3<>"/dev/tcp/127.0.0.1/$port"
} 2>/dev/null

# The values of `name`, in either quote, without comments.
fields() {
  sed 's/#.*//' "$config" | tr '\n' ' ' | grep -oE "\bname *: *(\"[^\"]*\"|'[^']*')"
}
mapfile -t names < <(fields | sed -E "s/[^\"']*.(.*)./\1/")
ready=0
for name in "${names[@]}"; do
  if available "$name"; then
    ready=$((ready + 1))
  else
    echo "$name: no version is AVAILABLE"
  fi
done

needed=${#names[@]}
[ "${1:-all}" = any ] && needed=1
[ "$ready" -ge "$needed" ] && [ "$ready" -gt 0 ]
