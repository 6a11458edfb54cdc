package rest

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/identity"
)

// Prefix is where this door stands.
const Prefix = "/rest/v1"

// Door serves /rest/v1. It is safe for concurrent use.
type Door struct {
	db    *identity.DB
	cache *cache
	log   *slog.Logger
}

// New reads the schema and makes a door. Callers set the identity of each request before it comes here.
func New(ctx context.Context, db *identity.DB, log *slog.Logger) (*Door, error) {
	known, err := openCache(ctx, db.Pool())
	if err != nil {
		return nil, err
	}
	return &Door{db: db, cache: known, log: log}, nil
}

// Routes adds the addresses to e. With an upstream in their place, a real PostgREST answers them instead.
func (d *Door) Routes(e *echo.Echo) {
	e.Any(Prefix, d.root)
	e.Any(Prefix+"/", d.root)
	e.Any(Prefix+"/rpc/:name", d.handle(d.rpc))
	e.Any(Prefix+"/:name", d.handle(d.table))
}

func (d *Door) root(c echo.Context) error {
	d.write(c, refuse(codeRoot, "Root endpoint metadata is disabled", "The OpenAPI description of PostgREST is not served.", "Names and types stand in sql/schema.sql."))
	return nil
}

// request is one request on its way.
type request struct {
	echo   echo.Context
	ctx    context.Context //nolint:containedctx // lives as long as its request
	name   string
	who    identity.Identity
	values url.Values
	preferences
}

// handle reads what all requests have in common, and answers errors.
func (d *Door) handle(next func(*request) error) echo.HandlerFunc {
	return func(c echo.Context) error {
		r, err := newRequest(c)
		if err == nil {
			err = next(r)
		}
		if err != nil {
			d.write(c, err)
		}
		return nil
	}
}

func newRequest(c echo.Context) (*request, error) {
	r := &request{echo: c, ctx: c.Request().Context(), name: c.Param("name"), who: identity.Of(c)}
	if strings.ContainsRune(r.name, '/') { // a parameter at the end takes all that follows
		return nil, refuse(codePath, "Invalid path specified in request URL", "", "")
	}
	raw := c.Request().URL.RawQuery
	if len(raw) > maxQueryBytes {
		return nil, badQuery("The query string is longer than %d characters", maxQueryBytes)
	}
	var err error
	if r.values, err = url.ParseQuery(raw); err != nil {
		return nil, badQuery("The query string can't be read: %s", shortened(err.Error()))
	}
	r.preferences, err = readHeaders(c.Request())
	return r, err
}

// isWorkers reports whether the request is of a worker that came with a token.
func (r *request) isWorkers() bool { return r.who.Role == identity.Worker }

// statement begins the SQL of a request.
func (r *request) statement() *statement { return &statement{workerNames: r.isWorkers()} }

// result is what the statement of a request gave.
type result struct {
	body  []byte // JSON; nil: too long
	rows  int64
	total int64 // -1: nobody counted
	extra []byte
}

// run does the statement as the caller. check, if not nil, may prevent the commit.
func (d *Door) run(r *request, access pgx.TxAccessMode, s identity.Statement, check func(result) error) (result, error) {
	work := identity.Work{Access: access, Locals: r.locals(), Statements: []identity.Statement{s}, Rollback: r.rollback}
	if check != nil {
		work.Check = func(results [][]identity.Row) error { return check(readResult(results[0])) }
	}
	results, err := d.db.Run(r.ctx, r.who, work)
	if err != nil {
		return result{}, err
	}
	return readResult(results[0]), nil
}

func readResult(rows []identity.Row) result {
	answer := result{total: -1}
	if len(rows) == 0 {
		return answer
	}
	row := rows[0]
	answer.body = row[0]
	if len(row) > 1 {
		answer.rows = number(row[1], 0)
	}
	if len(row) > 2 {
		answer.total = number(row[2], -1)
	}
	if len(row) > 3 {
		answer.extra = row[3]
	}
	return answer
}

// locals are what functions may ask about the request, as under PostgREST. Credentials are not among them.
func (r *request) locals() map[string]string {
	web := r.echo.Request()
	headers := make(map[string]string, len(web.Header))
	for name, values := range web.Header {
		switch name {
		case "Authorization", "Apikey", "Cookie", "Proxy-Authorization":
		default:
			headers[strings.ToLower(name)] = strings.ToValidUTF8(strings.ReplaceAll(strings.Join(values, ", "), "\x00", ""), "?")
		}
	}
	data, err := json.Marshal(headers)
	if err != nil {
		data = []byte("{}")
	}
	return map[string]string{
		"request.method": web.Method, "request.path": strings.ToValidUTF8(strings.ReplaceAll(web.URL.Path, "\x00", ""), "?"), "request.headers": string(data),
	}
}

// table serves one table.
func (d *Door) table(r *request) error {
	known, err := d.cache.now(r.ctx, func(s *schema) bool { return s.tables[r.name] != nil })
	if err != nil {
		return err
	}
	table := known.tables[r.name]
	if table == nil {
		hint := ""
		if near := nearest(r.name, known.tableNames()); near != "" {
			hint = "Perhaps you meant the table 'public." + near + "'"
		}
		return refuse(codeTable, "Could not find the table 'public."+shortened(r.name)+"' in the schema cache", "", hint)
	}
	if r.isWorkers() {
		table = asWorkersKnow(table)
	}
	switch method := r.echo.Request().Method; method {
	case http.MethodGet, http.MethodHead:
		return d.read(r, table)
	case http.MethodPost:
		return d.insert(r, table)
	case http.MethodPatch:
		return d.update(r, table)
	case http.MethodDelete:
		return d.remove(r, table)
	default:
		return refuse(codeMethod, "Unsupported HTTP method: "+method, "", "Tables take GET, HEAD, POST, PATCH and DELETE.")
	}
}
