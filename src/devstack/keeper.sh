# Ends what it was told to keep as soon as its standard input closes, which is when the owner is gone, killed or not.
# Lines: "keep PID" when a child starts, "done PID" when the owner has reaped it.
trap '' INT TERM HUP
kept=
while read -r verb pid; do
  case $verb in
  keep) kept="$kept $pid" ;;
  done)
    rest=
    for one in $kept; do [ "$one" = "$pid" ] || rest="$rest $one"; done
    kept=$rest
    ;;
  esac
done

# A zombie has ended: its owner may be busy waiting for this script.
alive() { read -r _ _ state _ <"/proc/$1/stat" && [ "$state" != Z ]; } 2>/dev/null
# PostgreSQL's backends lead sessions of their own; only their parent tells whose they are.
children() {
  for stat in /proc/[0-9]*/stat; do
    { read -r child _ _ parent _ <"$stat"; } 2>/dev/null && [ "$parent" = "$1" ] && echo "$child"
  done
}

# SIGINT is PostgreSQL's fast shutdown and OpenBao's clean one; SIGCONT first, for what was paused.
family=
for one in $kept; do
  own=$(children "$one")
  family="$family $one $own"
  kill -s INT "$one" 2>/dev/null
  for paused in $one $own; do kill -s CONT "$paused" 2>/dev/null; done
done
tries=200
while [ "$tries" -gt 0 ]; do
  left=
  for one in $kept; do alive "$one" && left="$left $one"; done
  [ -n "$left" ] || exit 0
  sleep 0.1
  tries=$((tries - 1))
done
for one in $family; do kill -s KILL "$one" 2>/dev/null; done
exit 0
