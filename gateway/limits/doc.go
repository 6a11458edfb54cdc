// Package limits keeps any one caller from using up the gateway: so many requests a second of a key, of an owner and of an address, sign-ins tried, and
// how deep a body is nested.
//
// A limit of rate is a bucket that holds Burst tokens and refills by PerSecond; a request takes one. The buckets lie in the database, where all gateways
// take from them (auth.take_tokens), a small batch at a time and before the last batch is used up: so what all admit together never exceeds
// Burst + PerSecond * time in any stretch of time, but for the batches in hand at its begin, of which each gateway has one per bucket ([Rate.Batch]); and
// a request normally waits for no answer of the database.
//
// Who is only a little too fast is slowed down, not refused: a request waits for its token for up to a second. While the database is away each gateway
// limits for itself.
package limits
