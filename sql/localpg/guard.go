package localpg

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// guardScript waits for the end of its input, which comes when we close the pipe or die in whatever way. Each line tells the server's pid, an empty
// one that the server has ended. Then it ends the server ($1 is the signal), waits at most 30 s for it and deletes the folder $2.
const guardScript = `
trap '' HUP INT TERM
pid=
while IFS= read -r line; do pid=$line; done
if [ -n "$pid" ]; then
	kill -s "$1" "$pid"
	i=0
	while [ $i -lt 300 ] && kill -0 "$pid"; do
		sleep 0.1
		i=$((i + 1))
	done
fi
rm -rf -- "$2" || { sleep 1; rm -rf -- "$2"; }
`

// guard is a small shell process in a session of its own that outlives us for as long as it takes to clean up. On Linux the kernel's signal at the
// parent's death does the same for the server; the guard also deletes the temporary folder, and is the only means on other systems.
type guard struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

func startGuard(signal, folder string) (*guard, error) {
	cmd := exec.Command("/bin/sh", "-c", guardScript, "darkroom-postgres-guard", signal, folder) //nolint:noctx // quoted in the script; it outlives every context
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting the guard of PostgreSQL: %w", err)
	}
	defer read.Close()
	cmd.Stdin = read
	if err := cmd.Start(); err != nil {
		_ = write.Close()
		return nil, fmt.Errorf("starting the guard of PostgreSQL: %w", err)
	}
	return &guard{cmd: cmd, pipe: write}, nil
}

// watch tells the guard which process to end.
func (g *guard) watch(pid int) {
	_, _ = io.WriteString(g.pipe, strconv.Itoa(pid)+"\n") // fails only when the guard was killed
}

// forget tells the guard that the server has ended, so that it can't signal another process which was given the same pid.
func (g *guard) forget() {
	_, _ = io.WriteString(g.pipe, "\n")
}

// release has the guard clean up, and waits for that.
func (g *guard) release() {
	_ = g.pipe.Close()
	_ = g.cmd.Wait()
}
