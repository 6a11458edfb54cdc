package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
)

// leeway is how far the clocks of issuer and gateway may differ; PostgREST has the same 30 s.
const leeway = 30 * time.Second

// jwtVerifier checks JWTs. Which algorithm a key is for is settled by the key and never by the token: the secret is for HS256 and nothing else, a public
// key for the one algorithm of its own. go-jose wants the algorithms before it parses, and reads JSON strictly: the name of a claim is case-sensitive
// and may stand there once.
type jwtVerifier struct {
	secret           []byte
	keys             *keySet // nil without
	issuer, audience string
	algorithms       []jose.SignatureAlgorithm
}

func (v *jwtVerifier) chooseAlgorithms() {
	if len(v.secret) > 0 {
		v.algorithms = append(v.algorithms, jose.HS256)
	}
	if v.keys != nil {
		v.algorithms = append(v.algorithms, jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA)
	}
}

func (v *jwtVerifier) verify(ctx context.Context, text string) (Identity, error) {
	if len(v.algorithms) == 0 {
		return Identity{}, refuse(ErrInvalid, errors.New("no key for JWTs is set"))
	}
	token, err := jwt.ParseSigned(text, v.algorithms)
	if err != nil {
		return Identity{}, refuse(ErrInvalid, err)
	}
	key, err := v.key(ctx, token.Headers[0])
	if errors.Is(err, errNoKeys) {
		return Identity{}, err
	} else if err != nil {
		return Identity{}, refuse(ErrInvalid, err)
	}
	var said struct {
		jwt.Claims

		Role Role `json:"role"`
	}
	var all rawClaims
	if err := token.Claims(key, &said, &all); err != nil {
		return Identity{}, refuse(ErrInvalid, err)
	}
	expected := jwt.Expected{Issuer: v.issuer}
	if v.audience != "" {
		expected.AnyAudience = jwt.Audience{v.audience}
	}
	switch err := said.ValidateWithLeeway(expected, leeway); {
	case errors.Is(err, jwt.ErrExpired):
		return Identity{}, refuse(ErrExpired, nil)
	case err != nil:
		return Identity{}, refuse(ErrInvalid, err)
	case said.Expiry == nil:
		return Identity{}, refuse(ErrInvalid, errors.New("no exp"))
	}
	who, err := ofClaims(said.Role, said.Subject, all)
	if err != nil {
		return Identity{}, refuse(ErrInvalid, err)
	}
	return who, nil
}

// key finds the key that a token says it is signed with, provided that it is for the token's algorithm.
func (v *jwtVerifier) key(ctx context.Context, header jose.Header) (any, error) {
	algorithm := jose.SignatureAlgorithm(header.Algorithm)
	if algorithm == jose.HS256 {
		return v.secret, nil
	}
	key, err := v.keys.find(ctx, header.KeyID)
	if err != nil {
		return nil, err
	}
	if key.algorithm != algorithm {
		return nil, errors.New("the key is for another algorithm")
	}
	return key.public, nil
}

// ofClaims makes an identity of the claims of a JWT that was verified. Workers come by personal access tokens only, so a JWT can neither have their
// role nor name a token. Only users have a subject.
func ofClaims(role Role, subject string, all rawClaims) (Identity, error) {
	claims := map[string]any{}
	decoder := json.NewDecoder(bytes.NewReader(all))
	decoder.UseNumber()
	if err := decoder.Decode(&claims); err != nil {
		return Identity{}, fmt.Errorf("reading the claims: %w", err)
	}
	delete(claims, "token_id")
	who := Identity{Role: role}
	switch role {
	case Authenticated:
		var err error
		if who.Subject, err = uuid.Parse(subject); err != nil || len(subject) != len(uuid.Nil.String()) || who.Subject == uuid.Nil {
			return Identity{}, errors.New("the subject is not a user's id")
		}
		who.Key = "user:" + who.Subject.String()
		claims["sub"] = who.Subject
	case Anon:
		who.Key = "anon"
		delete(claims, "sub")
	case Service:
		who.Key = "service"
		delete(claims, "sub")
	default:
		return Identity{}, errors.New("not a role of JWTs")
	}
	var err error
	if who.Claims, err = json.Marshal(claims); err != nil {
		return Identity{}, fmt.Errorf("writing the claims: %w", err)
	}
	if bytes.Contains(who.Claims, []byte(`\u0000`)) {
		return Identity{}, errors.New("NUL in the claims") // jsonb has none, so that every statement would fail
	}
	return who, nil
}

// rawClaims keeps the claims as they are written.
type rawClaims []byte

// UnmarshalJSON copies the text.
func (r *rawClaims) UnmarshalJSON(data []byte) error {
	*r = bytes.Clone(data)
	return nil
}
