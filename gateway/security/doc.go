// Package security holds the tests that nobody gets where they don't belong: the statements S1 to S40 of the table "Security" in gateway/README.md,
// each by the name of its test. It has no code of its own.
//
// Checks over the catalog return what they found, so that TestMutationsAreCaught can break a database on purpose (take away a policy, a revoke, a
// search_path or the fence) and see the right check fail.
package security
