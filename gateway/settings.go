package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"darkroom/gateway/dev"
	"darkroom/gateway/limits"
	"darkroom/gateway/server"
	"darkroom/gateway/upstream"
)

// settings are what flags and variables say.
type settings struct {
	gateway server.Config
	listen  string
	home    string

	gatewayPassword, workerdPassword string // of the logins that migrate makes
}

// setting is one row of the table that -h prints. A flag goes before its variable, and that before the default.
type setting struct {
	flag, variable, standard, meaning string
	commands                          []string
	set                               func(string) error
}

func (s *settings) table() []setting {
	text := func(target *string) func(string) error {
		return func(value string) error {
			*target = value
			return nil
		}
	}
	yesOrNo := func(target *bool) func(string) error {
		return func(value string) (err error) {
			if *target, err = strconv.ParseBool(value); err != nil {
				return errors.New("must be true or false")
			}
			return nil
		}
	}
	keys := []string{"serve", "keys"}
	list := func(target *[]string) func(string) error {
		return func(value string) error {
			*target = strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
			return nil
		}
	}
	rate := func(target *limits.Rate) func(string) error {
		return func(value string) (err error) {
			*target, err = limits.ParseRate(value)
			return err
		}
	}
	serve, migrate, both := []string{"serve"}, []string{"migrate"}, []string{"serve", "dev"}
	return []setting{
		{"database", "DATABASE_URL", "", "PostgreSQL, as postgres://user:password@host:5432/darkroom; dev starts one of its own", []string{"serve", "migrate", "dev"}, text(&s.gateway.DatabaseURL)},
		{"listen", "DARKROOM_LISTEN", "127.0.0.1:8484", "address to serve at; port 0 is any free one", both, text(&s.listen)},
		{"storage", "DARKROOM_STORAGE", "", "where files lie, as file:///var/lib/darkroom/media or s3://bucket?region=eu-central-1", serve, text(&s.gateway.StorageURL)},
		{"", "DARKROOM_SERVICE_KEY", "", "the key that opens everything, 16 characters or more", serve, text(&s.gateway.ServiceKey)},
		{"", "DARKROOM_ANON_KEY", "", "a public key for apps before anybody signs in", serve, text(&s.gateway.AnonKey)},
		{"", "DARKROOM_JWT_SECRET", "", "signs access tokens, 32 characters or more; without it nobody signs in here", keys, text(&s.gateway.JWTSecret)},
		{"", "DARKROOM_JWKS", "", "public keys of another issuer's JWTs, as https://... or a file", serve, text(&s.gateway.JWKS)},
		{"", "DARKROOM_JWT_ISSUER", "", "what a JWT's iss must be", keys, text(&s.gateway.JWTIssuer)},
		{"", "DARKROOM_JWT_AUDIENCE", "", "what a JWT's aud must contain", keys, text(&s.gateway.JWTAudience)},
		{"public-url", "DARKROOM_PUBLIC_URL", "", "where callers find the gateway, as https://tasks.example.com; else as each request says", serve, func(value string) error {
			if u, err := url.Parse(value); value != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "") {
				return errors.New("must be an address such as https://tasks.example.com")
			}
			s.gateway.PublicURL = value
			return nil
		}},
		{"signup", "DARKROOM_SIGNUP", "false", "let anybody sign up with email and password", serve, yesOrNo(&s.gateway.SignUp)},
		{"", "DARKROOM_MAX_UPLOAD", "52428800", "the largest file that a user may upload, in bytes", serve, func(value string) (err error) {
			if s.gateway.MaxUpload, err = strconv.ParseInt(value, 10, 64); err != nil || s.gateway.MaxUpload < 1 {
				return errors.New("must be a number of bytes such as 52428800")
			}
			return nil
		}},
		{"", "DARKROOM_RATE", "50/200", "requests a second and at once of a key, and twice that of all keys of a user; or off", serve, rate(&s.gateway.Guard.Limits.Key)},
		{"", "DARKROOM_RATE_ADDRESS", "100/400", "the same of an address, or off", serve, rate(&s.gateway.Guard.Limits.Address)},
		{"", "DARKROOM_TRUSTED_PROXIES", "", "networks of proxies whose X-Forwarded-For is believed, as 10.0.0.0/8,192.0.2.7", serve, list(&s.gateway.Guard.Proxies)},
		{"", "DARKROOM_CORS_ORIGINS", "", "origins of pages that may call, as https://app.example.com; localhost, or * for all", serve, list(&s.gateway.Guard.Origins)},
		{"upstream", "DARKROOM_UPSTREAM", "", "a Supabase project that is handed what does not move here yet, as https://abcdefgh.supabase.co", serve, text(&s.gateway.Upstream.Project)},
		{
			"upstream-prefixes", "DARKROOM_UPSTREAM_PREFIXES", strings.Join(upstream.DefaultPrefixes(), ","), "what is handed to it", serve,
			list(&s.gateway.Upstream.Prefixes),
		},
		{"rest-upstream", "DARKROOM_REST_UPSTREAM", "", "a PostgREST that is handed all of /rest/v1, as http://127.0.0.1:3000", serve, text(&s.gateway.Upstream.REST)},
		{"drain-notice", "DARKROOM_DRAIN_NOTICE", "1s", "how long /readyz says no before new connections are refused", serve, func(value string) (err error) {
			if s.gateway.DrainNotice, err = time.ParseDuration(value); err != nil || s.gateway.DrainNotice < 0 {
				return errors.New("must be a duration such as 1s")
			}
			return nil
		}},
		{"", "DARKROOM_GATEWAY_PASSWORD", "", "makes the login darkroom_gateway, or gives it this password", migrate, text(&s.gatewayPassword)},
		{"", "DARKROOM_WORKERD_PASSWORD", "", "makes the login darkroom_workerd, or gives it this password", migrate, text(&s.workerdPassword)},
		{"home", "DARKROOM_HOME", dev.DefaultHome, "folder for database, files and keys", []string{"dev"}, text(&s.home)},
	}
}

// parse reads the settings of a command. It prints the table and returns [flag.ErrHelp] when help is asked for.
func parse(command string, args []string, stderr io.Writer) (*settings, error) {
	s := &settings{}
	table := slices.DeleteFunc(s.table(), func(row setting) bool { return row.commands != nil && !slices.Contains(row.commands, command) })
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	for _, row := range table {
		value, source := row.standard, "the default of "+row.flag
		if given, found := os.LookupEnv(row.variable); found && given != "" {
			value, source = given, row.variable
		}
		if err := row.set(value); err != nil {
			return nil, fmt.Errorf("%s is %q and %w", source, value, err)
		}
		switch {
		case row.standard == "false":
			flags.BoolFunc(row.flag, row.meaning, row.set)
		case row.flag != "":
			flags.Func(row.flag, row.meaning, row.set)
		}
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		printHelp(command, table, stderr)
		return nil, flag.ErrHelp
	case err != nil:
		return nil, fmt.Errorf("%w; `gateway %s -h` lists the settings", err, command)
	case flags.NArg() > 0:
		return nil, fmt.Errorf("%s takes no argument %q; `gateway %s -h` lists the settings", command, flags.Arg(0), command)
	}
	return s, nil
}

func printHelp(command string, table []setting, out io.Writer) {
	fmt.Fprintf(out, "gateway %s; the commands are serve (the default), migrate, keys and dev.\n\n", command)
	rows := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(rows, "FLAG\tVARIABLE\tDEFAULT\tMEANING")
	for _, row := range table {
		name := row.flag
		if name != "" {
			name = "-" + name
		}
		fmt.Fprintf(rows, "%s\t%s\t%s\t%s\n", name, row.variable, row.standard, row.meaning)
	}
	rows.Flush()
}
