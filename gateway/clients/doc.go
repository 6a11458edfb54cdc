// Package clients holds tests of Darkroom as its users meet it; it has no code of its own.
//
// Three doors, one contract: conformance_test.go runs each scenario by SQL, by HTTP (as rpc, and by the functions of the spec) and by Go (package
// taskdb), and compares what was answered: the same rows, the same codes, the same messages.
//
// Unmodified clients: testdata/suite.mjs and, for realtime, testdata/live.mjs use @supabase/supabase-js as an app does, in the version that the first
// users have and in the newest (testdata/old, testdata/new). suite_test.go runs them in Node, browser_test.go in Chromium on a page of another origin.
//
// The storm: storm_test.go runs many unmodified clients and readers of streams in processes of their own, breaks their connections, kills the gateway and
// restarts PostgreSQL while transactions commit out of order, and holds what each received to what is stored. DARKROOM_STORM=full makes it large:
//
//	DARKROOM_STORM=full go test ./gateway/clients -run 'TestStorm$' -v -timeout 30m
package clients
