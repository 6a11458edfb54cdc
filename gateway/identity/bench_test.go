package identity_test

import (
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"darkroom/gateway/identity"
	"darkroom/sql/taskdb"
	"darkroom/sql/taskdbtest"
)

// BenchmarkVerify measures what finding out who calls costs a request.
func BenchmarkVerify(b *testing.B) {
	pg := taskdbtest.New(b)
	i := theIssuer()
	v := newVerifier(b, pg.Pool, func(s *identity.Settings) { s.JWKS = i.file(b) })
	token, err := taskdb.New(pg.Pool).CreateAccessToken(b.Context(), "worker", "", 0, uuid.Nil)
	must(b, err)
	for name, credential := range map[string]string{
		"HS256": sign(b, jose.HS256, []byte(secret), "", claims(nil)),
		"RS256": sign(b, jose.RS256, i.rsa, "RS256", claims(nil)),
		"ES256": sign(b, jose.ES256, i.private["ES256"], "ES256", claims(nil)),
		"token": token.Token,
		"key":   serviceKey,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(b.Context(), credential); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
