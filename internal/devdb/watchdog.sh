# watchdog.sh DIRECTORY...: stops a server and removes its directories when the process at the other end of stdin is gone.
# Lines it reads: "process PID" (the server, or initdb), "container ID"; without a value, there is none (any more).
trap '' HUP INT QUIT TERM
process='' container=''
while read -r word value; do
  case $word in
    process) process=$value ;;
    container) container=$value ;;
  esac
done
if [ -n "$process" ]; then
  kill -QUIT "$process" 2>/dev/null # PostgreSQL's immediate shutdown
  tries=0
  while [ $tries -lt 50 ] && kill -0 "$process" 2>/dev/null; do
    sleep 0.1
    tries=$((tries + 1))
  done
  kill -KILL "$process" 2>/dev/null
fi
if [ -n "$container" ]; then
  docker rm --force --volumes "$container" >/dev/null 2>&1
fi
if [ $# -gt 0 ]; then
  # The last writers of a killed server may still be at it.
  rm -rf -- "$@" || { sleep 1; rm -rf -- "$@"; }
fi
