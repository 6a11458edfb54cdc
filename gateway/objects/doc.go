// Package objects is the storage surface of the gateway, /storage/v1, as the unmodified @supabase/storage-js speaks it: one bucket,
// image_uploads, over a [storage.Bucket].
package objects
