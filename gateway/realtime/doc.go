// Package realtime is the doors by which changes reach browsers: /realtime/v1/websocket for the unmodified clients of Supabase, and streams of
// server-sent events for everybody else.
//
// SUBSCRIBED means live: the place in the event log is fixed before the client hears it. A connection that breaks is gone on from where it broke, also
// at another gateway and after a crash of this one, because each subscription has a lease in the database that says how far its client has certainly
// come. What the client has received is known by pings that it answers. Delivery is at least once, in the order of commits for each row.
package realtime
