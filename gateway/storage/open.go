package storage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"
	_ "gocloud.dev/blob/azureblob" // the azblob:// scheme
	_ "gocloud.dev/blob/fileblob"  // the file:// scheme
	_ "gocloud.dev/blob/gcsblob"   // the gs:// scheme
	_ "gocloud.dev/blob/s3blob"    // the s3:// scheme
	"gocloud.dev/gcerrors"
	"gocloud.dev/gcp"
)

// openTimeout is how long a bucket has to answer when it is opened. Looking for credentials on a cloud's machine is part of it.
const openTimeout = 30 * time.Second

// Open opens the bucket that a URL names. The caller closes it.
//
//	file:///var/lib/darkroom/media                                       a folder
//	s3://bucket?region=eu-central-1                                      Amazon S3
//	s3://bucket?region=x&endpoint=https://host:9000&use_path_style=true  another server that speaks S3
//	gs://bucket                                                          Google Cloud Storage
//	azblob://container                                                   Azure Blob Storage
//
// A missing folder is made, for this user only; "?dir_file_mode=0750" changes that. A bucket must exist, and is asked once whether it answers.
// "?prefix=a/b/" keeps everything below that part of a bucket. Credentials come from the environment, as the provider's own tools take them, and are
// refused in a URL. No error quotes more of the URL than its scheme and the bucket's name.
func Open(ctx context.Context, bucketURL string) (*Bucket, error) {
	u, err := url.Parse(bucketURL)
	if err != nil {
		return nil, errors.New("open storage: the URL cannot be read; it must be like file:///absolute/path or s3://bucket")
	}
	switch {
	case u.User != nil:
		return nil, errors.New("open storage: credentials do not belong into the URL; set the environment variables of the storage's provider")
	case u.Scheme == "file":
		return openFolder(ctx, u)
	case u.Scheme == "s3" || u.Scheme == "gs" || u.Scheme == "azblob":
		return openCloud(ctx, u)
	}
	return nil, errors.New("open storage: the URL must begin with file:///, s3://, gs:// or azblob://")
}

func openFolder(ctx context.Context, u *url.URL) (*Bucket, error) {
	if u.Host != "" || !path.IsAbs(u.Path) {
		return nil, errors.New("open storage: a folder is written as file:///absolute/path")
	}
	query := u.Query()
	if query.Has("prefix") {
		return nil, errors.New("open storage: a folder takes no prefix; name the folder below it")
	}
	query.Set("create_dir", "1")
	// Temporary files stand beside their objects: a rename from another file system would fail.
	query.Set("no_tmp_dir", "1")
	// The media type is read from the bytes. A second file beside each object could be lost or half written.
	query.Set("metadata", "skip")
	if !query.Has("dir_file_mode") {
		query.Set("dir_file_mode", "0700")
	}
	with := *u
	with.RawQuery = query.Encode()
	opened, err := blob.OpenBucket(ctx, with.String())
	if err != nil {
		return nil, fmt.Errorf("open storage: %w", err)
	}
	root, err := os.OpenRoot(u.Path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open storage: %w", err), opened.Close())
	}
	return &Bucket{blob: opened, folder: &folder{root}}, nil
}

func openCloud(ctx context.Context, u *url.URL) (*Bucket, error) {
	name := u.Scheme + "://" + u.Host // as errors say it
	query := u.Query()
	prefix := strings.Trim(query.Get("prefix"), "/")
	query.Del("prefix")
	switch endpoint, err := url.Parse(query.Get("endpoint")); {
	case u.Hostname() == "" || u.Port() != "":
		return nil, fmt.Errorf("open storage: the URL must name a bucket, as %s://bucket", u.Scheme)
	case strings.Trim(u.Path, "/") != "" || u.Fragment != "":
		return nil, fmt.Errorf("open storage: a part of %s is written as %s?prefix=part/", name, name)
	case err != nil || query.Has("endpoint") && (endpoint.Host == "" || endpoint.User != nil):
		return nil, fmt.Errorf("open storage: the endpoint of %s must be like https://host:9000, without credentials", name)
	}
	if prefix != "" {
		if _, err := CleanKey(prefix); err != nil {
			return nil, fmt.Errorf("open storage: the prefix of %s: %w", name, err)
		}
		prefix += "/"
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if u.Scheme == "gs" && os.Getenv("STORAGE_EMULATOR_HOST") == "" && !query.Has("anonymous") {
		if _, err := gcp.DefaultCredentials(ctx); err != nil {
			return nil, fmt.Errorf("open storage: there are no credentials for %s; set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account", name)
		}
	}

	with := url.URL{Scheme: u.Scheme, Host: u.Host, RawQuery: query.Encode()}
	opened, err := blob.OpenBucket(ctx, with.String())
	if err != nil {
		// The library's text quotes the whole URL.
		return nil, fmt.Errorf("open storage: %s", strings.ReplaceAll(err.Error(), with.String(), name))
	}
	if prefix != "" {
		opened = blob.PrefixedBucket(opened, prefix)
	}
	b := &Bucket{blob: opened, url: name, name: u.Host, prefix: prefix}
	if err := b.Check(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open storage: %w", err), opened.Close())
	}
	return b, nil
}

// Check returns nil when the bucket answers, else one sentence that says why it can't be used.
func (b *Bucket) Check(ctx context.Context) error {
	if b.folder != nil {
		if _, err := b.folder.Stat("."); err != nil {
			return fmt.Errorf("the folder of the storage: %w", err)
		}
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err //nolint:wrapcheck // the caller's own
	}
	var client *s3.Client
	if b.blob.As(&client) {
		if client.Options().Region == "" {
			return fmt.Errorf("%s needs a region; add ?region= to the URL or set AWS_REGION (other servers than Amazon's take any)", b.url)
		}
		if _, err := client.Options().Credentials.Retrieve(ctx); err != nil {
			return fmt.Errorf("there are no credentials for %s; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", b.url)
		}
	}
	_, _, err := b.blob.ListPage(ctx, blob.FirstPageToken, 1, nil)
	var answer interface{ HTTPStatusCode() int }
	switch code := gcerrors.Code(err); {
	case err == nil:
		return nil
	case code == gcerrors.NotFound:
		return fmt.Errorf("there is no bucket %s, or these credentials may not see it", b.url)
	case code == gcerrors.PermissionDenied,
		errors.As(err, &answer) && (answer.HTTPStatusCode() == http.StatusForbidden || answer.HTTPStatusCode() == http.StatusUnauthorized):
		return fmt.Errorf("%s refuses the credentials: they are wrong, or may not list the bucket", b.url)
	}
	return fmt.Errorf("%s does not answer: %w", b.url, discreet(err))
}
