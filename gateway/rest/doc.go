// Package rest is the door at /rest/v1: the functions and tables of the schema public for supabase-js and other clients of PostgREST, as much of its
// dialect as README.md says. What it does not speak it refuses by name; it ignores nothing.
//
// A request becomes one statement, which runs as the caller under row security ([identity.DB.Run]): begin, who calls, the statement and commit in one
// round trip. Its SQL is made of names that stand in the schema cache (schema.go) and of parameters; PostgreSQL makes the JSON.
//
// query.go and filter.go read the query string, prefer.go the headers, statement.go writes SQL, table.go, write.go and rpc.go are the requests,
// worker.go is what workers of others say in the dialect and mean otherwise, answer.go and refusal.go answer.
package rest
