// Package clients holds tests of Darkroom as its users meet it; it has no code of its own.
//
// Three doors, one contract: conformance_test.go runs each scenario by SQL, by HTTP (as rpc, and by the functions of the spec) and by Go (package
// taskdb), and compares what was answered: the same rows, the same codes, the same messages.
//
// Unmodified clients: testdata/suite.mjs uses @supabase/supabase-js as an app does, in the version that the first users have and in the newest
// (testdata/old, testdata/new). node_test.go runs it in Node, browser_test.go in Chromium on a page of another origin.
package clients
