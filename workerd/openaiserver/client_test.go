package openaiserver_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"darkroom/sql/localpg/install"
	"darkroom/workerd/openaiserver"
)

// clientPackage is OpenAI's own client for Node.js. It needs no other package.
var clientPackage = install.Package{
	Name: "openai", Version: "7.57.0",
	Integrity: "sha512-RbmrdE5NdfW6nGq/FaCJ3KFCZpotoExPzruQUSMCTw/ouUFO08vpvVdSmgmPxQMFAiv9EXZCEXvcWYU+n6NzsQ==",
}

// officialClient returns the command of a script that uses OpenAI's client, which it gets the folder of.
func officialClient(t *testing.T, script, address string) *exec.Cmd {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed, which OpenAI's client runs on")
	}
	folder, err := clientPackage.Fetch(t.Context(), nil)
	if errors.Is(err, install.ErrNoClient) {
		t.Skip("npm is not installed, which fetches OpenAI's client")
	}
	if err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), node, script, folder, address)
}

func stderrOf(err error) string {
	if failure, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(failure.Stderr)
	}
	return ""
}

func TestTheOfficialClientCanUseIt(t *testing.T) {
	t.Parallel()
	address := serve(t, openaiserver.Config{Engine: newPainter(), Key: "right", Queue: 1})
	output, err := officialClient(t, "testdata/client.cjs", address+"/v1").CombinedOutput()
	for line := range strings.Lines(string(output)) {
		t.Log(strings.TrimRight(line, "\n"))
	}
	if err != nil {
		t.Error(err)
	}
}
