// Package localpg runs a PostgreSQL server of its own for `make run`, the tests and the benchmarks.
//
// [Find] looks for the server's programs and, where there are none, gets them. [Start] makes a database cluster when its folder is empty, starts
// the server, and sees to it that the server ends with the program that started it, even when that program is killed with SIGKILL.
//
// A kept cluster, for `make run`:
//
//	server, err := localpg.Start(ctx, localpg.Config{Dir: ".darkroom/postgres", Listen: "127.0.0.1:5484", Database: "darkroom", Log: os.Stderr})
//	if err != nil {
//		return err
//	}
//	defer server.Stop(context.Background())
//	pool, err := pgxpool.New(ctx, server.URL())
//
// A temporary cluster, for tests: localpg.Start(ctx, localpg.Config{}). It is reached by a Unix socket only and deleted when it stops.
package localpg
