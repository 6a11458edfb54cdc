package security_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"darkroom/gateway/problem"
	"darkroom/sql/localpg/install"
	"darkroom/sql/taskdb"
)

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// sqlFiles are the files of sql/ and migrations/ that a database gets.
func sqlFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, pattern := range []string{"sql/*.sql", "sql/internal/*.sql", "sql/auth/*.sql", "migrations/*.sql"} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(names), err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files[filepath.Base(filepath.Dir(name))+"/"+filepath.Base(name)] = string(data)
		}
	}
	return files
}

// TestS18NoWebhooks: "Webhooks are signed over timestamp and body [...]". Darkroom sends none: whoever wants to be told listens (realtime), and so there is no
// receiver, no secret and no address of a user's to be called. The test holds until there is a table, function, route or client that would; then S18 wants
// its own tests.
func TestS18NoWebhooks(t *testing.T) {
	t.Parallel()
	for name, text := range sqlFiles(t) {
		if strings.Contains(strings.ToLower(text), "webhook") || strings.Contains(strings.ToLower(text), "callback_url") {
			t.Errorf("%s speaks of webhooks", name)
		}
	}
	none(t, grepSource(t, `(?i)webhook|callback_?url`))
}

// TestS21NoConcatenatedSQL: "No EXECUTE of concatenated text (plpgsql_check and a grep gate)." In functions there is no EXECUTE at all; the migrations have
// some over names of the catalog, by format's %I and %L alone. plpgsql_check runs in sql/taskdb, TestPlpgsqlCheckFindsNothing.
func TestS21NoConcatenatedSQL(t *testing.T) {
	t.Parallel()
	comment := regexp.MustCompile(`(?m)--.*$`)
	dynamic := regexp.MustCompile(`(?i)\bexecute\s+(?:format\s*\(|'|[a-z_]+\s*(;|\|\|)|concat)`)
	fine := regexp.MustCompile(`(?i)^execute format\('[^']*(?:''[^']*)*'(, [\w.]+(\(\))?)*\)`)
	for name, text := range sqlFiles(t) {
		text = comment.ReplaceAllString(text, "")
		for _, at := range dynamic.FindAllStringIndex(text, -1) {
			statement := text[at[0]:min(len(text), at[0]+200)]
			if !strings.HasPrefix(name, "migrations/") || strings.HasPrefix(name, "migrations/00002") {
				t.Errorf("%s executes text: %.100s", name, statement)
			} else if !fine.MatchString(statement) {
				t.Errorf("%s executes text that is more than format's: %.100s", name, statement)
			}
		}
	}
	// In Go, SQL is constant: nothing is put into a text that begins as a statement does.
	none(t, slices.DeleteFunc(grepSource(t, `(?i)(Sprintf\(\s*["`+"`"+`]\s*(select|insert into|update|delete from)\s|["`+"`"+`]\s*(select|insert|update|delete)\s[^"`+"`"+`]*["`+"`"+`]\s*\+)`),
		func(finding string) bool {
			return slices.ContainsFunc(builtSQL, func(file string) bool { return strings.HasPrefix(finding, root+"/"+file) })
		}))
}

// builtSQL are the files that build SQL, and what of: names that they quote and values that are arguments.
var builtSQL = []string{
	"gateway/rest/", // identifiers of the catalog, quoted; TestS21 there fuzzes them
}

// TestS30ErrorsHaveStableCodes: "Errors never expose SQL text or a stack; each has a stable code." Every code that the gateway's Go files name, and every one
// that SQL raises, stands in gateway/README.md with the status that the gateway gives it. That the answers tell nothing more is
// TestInternalErrorsAreNotTold of gateway/server, and TestS29NoSecretAnywhere.
func TestS30ErrorsHaveStableCodes(t *testing.T) {
	t.Parallel()
	rows := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| ((?:TD|GW)\d{3}) \| (\d{3}) \|`).FindAllStringSubmatch(read(t, "gateway/README.md"), -1) {
		if rows[row[1]] != "" {
			t.Errorf("%s stands twice in gateway/README.md", row[1])
		}
		rows[row[1]] = row[2]
	}
	for _, e := range taskdb.Errors() {
		if status := rows[e.Code]; status == "" {
			t.Errorf("gateway/README.md lacks %s", e.Code)
		} else if got := problem.Status(e.Code); got < 400 || status != "" && statusText(got) != status {
			t.Errorf("%s is answered with %d, gateway/README.md says %s", e.Code, got, status)
		}
	}
	for _, finding := range grepSource(t, `"GW\d{3}"`) {
		for _, code := range regexp.MustCompile(`GW\d{3}`).FindAllString(finding, -1) {
			if rows[code] == "" {
				t.Errorf("gateway/README.md lacks %s: %s", code, finding)
			}
		}
	}
}

func statusText(status int) string {
	return string([]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)})
}

// TestS31TLSToPostgreSQLIsVerified: "TLS verification to PostgreSQL is on by default".
func TestS31TLSToPostgreSQLIsVerified(t *testing.T) {
	t.Setenv("PGSSLMODE", "")
	for url, verified := range map[string]bool{
		"postgres://u:p@db.example.com/app":                         true,
		"postgres://u:p@db.example.com:5433/app?application_name=x": true,
		"postgres://u:p@192.0.2.7/app?pool_max_conns=4":             true,
		"postgres://u:p@localhost,db.example.com/app":               true,
		"host=db.example.com user=u password=p dbname=app":          true,
		"postgres://u:p@db.example.com/app?sslmode=verify-full":     true,
		"postgres://u@127.0.0.1/app":                                false,
		"postgres://u@[::1]:5432/app":                               false,
		"postgres://u@localhost/app":                                false,
		"host=/run/postgresql dbname=app":                           false,
		"postgres:///app?host=/run/postgresql":                      false,
		"postgres://u:p@db.example.com/app?sslmode=disable":         false, // as it was told
		"postgres://u:p@postgres:5432/app?sslmode=require":          false,
	} {
		got, err := taskdb.WithTLS(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		config, err := pgconn.ParseConfig(got)
		if err != nil {
			t.Errorf("%s: %v", got, err)
			continue
		}
		proven := config.TLSConfig != nil && !config.TLSConfig.InsecureSkipVerify && config.TLSConfig.ServerName != ""
		for _, other := range config.Fallbacks {
			proven = proven && other.TLSConfig != nil && !other.TLSConfig.InsecureSkipVerify
		}
		if proven != verified {
			t.Errorf("%s becomes %s: the server proves who it is: %v, want %v", url, got, proven, verified)
		}
	}
	// Every connection is opened with it.
	opened := grepSource(t, `pgx(pool)?\.(Connect|New|ParseConfig)\(`)
	for _, finding := range opened {
		file, _, _ := strings.Cut(strings.TrimPrefix(finding, root+"/"), ":")
		if !strings.Contains(read(t, file), "WithTLS(") {
			t.Errorf("a connection without WithTLS: %s", finding)
		}
	}
	if len(opened) < 3 {
		t.Errorf("only %d places were looked at", len(opened))
	}
}

// TestS36BuildIsReproducible: "govulncheck and dependency pins are clean; an SBOM is made; the build is reproducible." Two builds from two copies of the
// sources give the same file. (govulncheck: see .ci/run, where it runs if its database can be reached.)
func TestS36BuildIsReproducible(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds the gateway twice")
	}
	sums := map[string]bool{}
	for range 2 {
		out := filepath.Join(t.TempDir(), "gateway")
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", out, "./gateway")
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-tags=disable_grpc_modules")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		sums[hex.EncodeToString(sum[:])] = true
		if here, err := filepath.Abs(root); err != nil || bytes.Contains(data, []byte(here)) {
			t.Errorf("the program holds the folder %s, %v", here, err)
		}
	}
	if len(sums) != 1 {
		t.Errorf("two builds differ: %v", sums)
	}
}

// TestS36DependenciesArePinned: modules by go.sum, programs of the Makefile and npm packages by exact versions; nothing runs "@latest".
func TestS36DependenciesArePinned(t *testing.T) {
	t.Parallel()
	if mod := read(t, "go.mod"); regexp.MustCompile(`(?m)^replace |^\treplace `).MatchString(mod) {
		t.Error("go.mod replaces a module")
	}
	for _, name := range []string{"Makefile", ".ci/run", "Dockerfile", "compose.yaml"} {
		text := regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(read(t, name), "")
		if found := regexp.MustCompile(`@latest|:latest|@(main|master)\b`).FindString(text); found != "" {
			t.Errorf("%s has %s", name, found)
		}
	}
	if !strings.Contains(read(t, "Makefile"), "\nsbom:") {
		t.Error("the Makefile has no target sbom")
	}
}

// TestS37MigrationsAreSafe: "Migrations pass squawk; a lock timeout is set; no long exclusive lock at 1 M rows." Each statement of the migrations either makes
// something new or changes what the same migration made: so none waits for a lock of somebody's, or rewrites a table that has rows. From the first release
// on, a migration that changes a table of an older one says so with a lock_timeout of its own, makes indexes concurrently and validates constraints on their
// own. All migrations run with a lock_timeout of 10 s (migrations.Up).
func TestS37MigrationsAreSafe(t *testing.T) {
	t.Parallel()
	none(t, migrationFindings(sqlFiles(t)))
	if !strings.Contains(read(t, "migrations/embed.go"), `RuntimeParams["lock_timeout"] = lockTimeout`) {
		t.Error("migrations wait for locks as long as it takes")
	}
	for broken, sql := range map[string]string{
		"a column that rewrites":  "alter table public.older add column x int not null default random();",
		"an index that locks":     "create index x on public.older (y);",
		"a type that rewrites":    "alter table public.older alter column x type bigint;",
		"a table that is dropped": "drop table public.older;",
	} {
		if len(migrationFindings(map[string]string{"migrations/00009_x.sql": "-- +goose Up\n" + sql + "\n-- +goose Down\n"})) == 0 {
			t.Errorf("not found: %s", broken)
		}
	}
}

var (
	creates = regexp.MustCompile(`(?i)create (?:table|(?:materialized )?view|sequence|type|schema)(?: if not exists)? ([\w.]+)`)
	changes = regexp.MustCompile(`(?im)^\s*(alter table|drop table|create (?:unique )?index [\w.]* ?on|drop index|lock table|truncate|vacuum full|cluster|reindex|refresh)\s*([\w.]*)`)
)

func migrationFindings(files map[string]string) (findings []string) {
	made := map[string]bool{}
	names := make([]string, 0, len(files))
	for name := range files {
		if strings.HasPrefix(name, "migrations/") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		up, _, _ := strings.Cut(files[name], "-- +goose Down")
		for _, match := range creates.FindAllStringSubmatch(up, -1) {
			made[match[1]] = true
		}
		for _, match := range changes.FindAllStringSubmatch(up, -1) {
			// Nothing is released yet: all migrations are one installation.
			if !made[match[2]] && !strings.Contains(up, "set local lock_timeout") {
				findings = append(findings, name+": "+strings.TrimSpace(match[0])+" changes what an older migration made, without a lock_timeout")
			}
		}
	}
	return findings
}

// squawk is the linter that S37 names.
var squawk = install.Package{
	Name: "@squawk-cli/linux-x64", Version: "2.66.0",
	Integrity: "sha512-p5Wq5BIcDGujJpmub3hiULkiEYnwI7FPdXaWMjCwoYQvN5RI79EniI95ws10lLXxcgbN/LdnYD+asaRiHuINsw==",
}

// TestS37SquawkFindsNothing runs squawk over the migrations. Excluded are: the timeouts, which migrations.Up sets for the connection; int columns, which are
// counts that stay small; and DROP TABLE, which stands in the Down parts alone (the test above).
func TestS37SquawkFindsNothing(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("squawk is pinned for Linux on x86-64 only")
	}
	folder, err := squawk.Fetch(t.Context(), nil)
	if err != nil && os.Getenv("DARKROOM_REQUIRE_SQUAWK") != "1" {
		t.Skipf("squawk cannot be had: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "migrations", "*.sql"))
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	lint := func(files ...string) (string, error) {
		out, err := exec.Command(filepath.Join(folder, "bin", "squawk"), append([]string{
			"--assume-in-transaction", "--pg-version", "15",
			"--exclude", "require-lock-timeout,require-statement-timeout,prefer-bigint-over-int,ban-drop-table",
		}, files...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := lint(files...); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	bad := filepath.Join(t.TempDir(), "bad.sql")
	if err := os.WriteFile(bad, []byte("alter table t alter column c type bigint;\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := lint(bad); err == nil {
		t.Errorf("squawk finds nothing in a bad migration: %s", out)
	}
}

// testsOf returns the names of the test functions of a package's folder.
func testsOf(t *testing.T, folder string) map[string]bool {
	t.Helper()
	tests := map[string]bool{}
	err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() && path != filepath.Join(root, folder) {
			if entry != nil && entry.IsDir() && err == nil {
				return fs.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && (strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "Fuzz")) {
				tests[f.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}
