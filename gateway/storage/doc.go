// Package storage keeps the media of tasks: what users uploaded and what workers made.
//
// The gateway serves from it and workerd writes into it, both through a [Bucket] opened by URL: a folder, or a bucket of S3, Google Cloud Storage or
// Azure, see [Open].
//
//	bucket, err := storage.Open(ctx, "file:///var/lib/darkroom/media")
//	info, err := bucket.Put(ctx, storage.OutputKey(owner, task, attempt, "video.mp4"), file, 2<<30)
//	fmt.Println(storage.URL("https://media.example.com", info.Key))
//
// An object is written once and never again: [Bucket.Put] answers [ErrExists] for a key that is taken, so a worker
// whose lease was given to another can't replace what the other one stored. An object becomes visible when it is whole.
// The store itself sees to that, also between machines: a folder by a lock, the others by a condition of the request.
//
// Keys are "{owner}/tasks/{task}/{attempt}/{name}" and "{owner}/uploads/{name}". [CleanKey] says what a key may hold.
package storage
