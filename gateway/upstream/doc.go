// Package upstream hands requests to servers behind the gateway, so that an app moves here prefix by prefix.
//
// [Project] forwards some prefixes, as /realtime/v1, to an existing Supabase project, which has the same JWT secret and knows its users by itself.
// [PostgREST] hands all of /rest/v1 to a PostgREST over the same database, as the callers that the gateway knows.
//
// The server behind is the one that the operator named: nothing in a request changes its scheme, host or port, no redirect is followed, and no path with
// dot segments is passed on, so that a prefix is never left. Keys of the gateway's own, and personal access tokens, never go out.
package upstream
