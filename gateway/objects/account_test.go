package objects

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"darkroom/gateway/identity"
	"darkroom/gateway/storage"
)

func writeFile(t *testing.T, folder, key, content string) {
	t.Helper()
	path := filepath.Join(folder, key)
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, []byte(content), 0o600))
}

// crashPlan is what a process that is to die gets in its environment.
type crashPlan struct {
	Database, Bucket, Key, Point string
}

// crash stores or deletes an object as the door does, and is killed at a point of it.
func crash() {
	ctx := context.Background()
	var plan crashPlan
	err := json.Unmarshal([]byte(os.Getenv(crashPoint)), &plan)
	pool, errPool := pgxpool.New(ctx, plan.Database)
	bucket, errBucket := storage.Open(ctx, plan.Bucket)
	if err := errors.Join(err, errPool, errBucket); err != nil {
		panic(err)
	}
	db, err := identity.New(ctx, pool)
	if err != nil {
		panic(err)
	}
	d := New(Config{Bucket: bucket, DB: db, MaxUpload: maxUpload})
	die := func() {
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Kill()
		select {}
	}
	r, err := d.begin(ctx, plan.Key, 0, 5000, time.Second)
	if err != nil {
		panic(err)
	}
	content := append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 992)...)
	switch plan.Point {
	case "reserved":
	case "half":
		_, err = bucket.Replace(ctx, plan.Key, io.MultiReader(bytes.NewReader(content), dying(die)), 5000)
	case "stored":
		_, err = bucket.Replace(ctx, plan.Key, bytes.NewReader(content), r.granted)
	case "deleted":
		err = bucket.Delete(ctx, plan.Key)
	}
	fmt.Fprintln(os.Stderr, err)
	die()
}

type dying func()

func (d dying) Read([]byte) (int, error) {
	d()
	return 0, io.EOF
}

// A gateway that is killed anywhere between reservation and row leaves nothing that is not mended.
func TestAKilledGatewayLeavesNothingForEver(t *testing.T) {
	onBoth(t, func(b *testBundle) {
		t := b.t
		b.setQuota(b.ann, 10_000)
		at := func(name string) string { return b.ann.String() + "/" + name }
		for _, before := range []string{"new", "old"} {
			for _, point := range []string{"reserved", "half", "stored", "deleted"} {
				key := at(before + "-" + point + ".png")
				if before == "old" {
					b.wantOK(b.upload("ann", key, picture(t, 400, 1)))
				}
				if before == "new" && point == "deleted" {
					continue
				}
				plan, err := json.Marshal(crashPlan{b.pg.URL, b.bucketURL, key, point})
				must(t, err)
				child := exec.CommandContext(t.Context(), os.Args[0])
				child.Env = append(os.Environ(), crashPoint+"="+string(plan))
				output, err := child.CombinedOutput()
				if err == nil || strings.Contains(string(output), "panic") {
					t.Fatalf("%s %s was not killed: %v %s", before, point, err, output)
				}
				// Meanwhile it is counted, and nobody else writes it.
				if _, _, reserved := b.counted(b.ann); reserved != 1 {
					t.Errorf("%s %s: %d reservations", before, point, reserved)
				}
				b.wantRefusal(b.upload("ann", key, picture(t, 300, 2), "X-Upsert", "true"), 400, "423", "TD071")
				must(t, b.door.Repair(t.Context()))
				if _, _, reserved := b.counted(b.ann); reserved != 1 {
					t.Error("a reservation was settled that had not lapsed")
				}
				_, err = b.pg.Pool.Exec(t.Context(), "update darkroom.uploads set reserved_until = clock_timestamp() - interval '1 second' where reservation is not null")
				must(t, err)
				must(t, b.door.Repair(t.Context()))
				b.wantBalanced(b.ann)
				b.wantOK(b.upload("ann", key, picture(t, 300, 2), "X-Upsert", "true"))
				b.wantOK(b.do("ann", http.MethodDelete, "/object/image_uploads/"+key, nil))
				b.wantBalanced(b.ann)
			}
		}
	})
}

func TestRecountFindsWhatNoRowCounts(t *testing.T) {
	onBoth(t, func(b *testBundle) {
		t := b.t
		for _, key := range []string{b.ann.String() + "/a.png", b.ann.String() + "/tasks/x/1/o.png", "shared/b.png"} {
			_, err := b.bucket.Put(t.Context(), key, bytes.NewReader(picture(t, 400, 1)), 1<<20)
			must(t, err)
		}
		b.wantOK(b.upload("ann", b.ann.String()+"/c.png", picture(t, 500, 1)))
		must(t, b.door.Recount(t.Context(), time.Now().Add(-time.Hour)))
		if bytes, _, _ := b.counted(b.ann); bytes != 500 {
			t.Errorf("counted %d bytes: fresh files are not for the recount", bytes)
		}
		must(t, b.door.Recount(t.Context(), time.Now().Add(time.Hour)))
		must(t, b.door.Recount(t.Context(), time.Now().Add(time.Hour)))
		if bytes, rows, reserved := b.counted(b.ann); bytes != 900 || rows != 2 || reserved != 0 {
			t.Errorf("counted %d bytes in %d rows, %d reserved", bytes, rows, reserved)
		}
		b.wantBalanced(b.ann)
	})
}

// Two that take over the same lapsed reservations settle each once.
func TestRepairSideBySide(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 150 {
		key := fmt.Sprintf("%s/%d.png", b.ann, i)
		_, err := b.door.begin(t.Context(), key, 1, 1000, 0)
		must(t, err)
		if i%2 == 0 {
			_, err := b.bucket.Put(t.Context(), key, bytes.NewReader(picture(t, 300, 1)), 1<<20)
			must(t, err)
		}
	}
	_, err := b.pg.Pool.Exec(t.Context(), "update darkroom.uploads set reserved_until = '-infinity'")
	must(t, err)
	failures := make(chan error, 4)
	for range 4 {
		go func() { failures <- b.door.Repair(t.Context()) }()
	}
	for range 4 {
		must(t, <-failures)
	}
	b.wantBalanced(b.ann)
	if _, rows, _ := b.counted(b.ann); rows != 75 {
		t.Errorf("%d rows", rows)
	}
}
