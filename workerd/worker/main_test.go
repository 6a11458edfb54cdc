package worker_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain looks for what workers leave running. The server of the test databases lives on, with its administrator's pool.
func TestMain(m *testing.M) {
	if os.Getenv(beChild) != "" {
		childMain()
		return
	}
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("darkroom/sql/localpg.(*Server).launch.func1"),
		goleak.IgnoreAnyFunction("github.com/jackc/pgx/v5/pgxpool.(*Pool).backgroundHealthCheck"),
	)
}
