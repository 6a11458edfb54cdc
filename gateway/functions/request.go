package functions

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"darkroom/gateway/problem"
	"darkroom/sql/taskdb"
)

// decode reads a body that is one JSON object. Fields that T lacks are left alone: workers send some that are not for us.
func decode[T any](c echo.Context) (T, error) {
	var body T
	if given := c.Request().Header.Get(echo.HeaderContentType); given != "" {
		if media, _, err := mime.ParseMediaType(given); err != nil || media != echo.MIMEApplicationJSON {
			return body, problem.Refuse(problem.MediaType, "")
		}
	}
	most := MaxBytes(c.Param("name"))
	data, err := io.ReadAll(http.MaxBytesReader(c.Response(), c.Request().Body, most))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return body, problem.Refuse(problem.TooLarge, fmt.Sprintf("A body may have up to %d bytes.", most))
	}
	if err != nil {
		return body, problem.Refuse(problem.Malformed, "The body did not arrive whole.")
	}
	if err := json.Unmarshal(data, &body); err != nil {
		return body, problem.Refuse(problem.Malformed, whatIsWrong(err))
	}
	return body, nil
}

// whatIsWrong says why a body can't be read, in words of JSON.
func whatIsWrong(err error) string {
	if _, ok := errors.AsType[base64.CorruptInputError](err); ok {
		return "A file in the body must be in base64, with padding and without a prefix."
	}
	var wrongType *json.UnmarshalTypeError
	if !errors.As(err, &wrongType) {
		return "The body is not JSON: " + strings.TrimPrefix(err.Error(), "json: ") + "."
	}
	if wrongType.Field == "" {
		return "The body must be a JSON object, not " + wrongType.Value + "."
	}
	names := strings.Split(wrongType.Field, ".") // embedded structs stand in it too
	return fmt.Sprintf("%s can't be %s.", names[len(names)-1], wrongType.Value)
}

// oneOrMany is a list of texts, of which a single one may stand for itself.
type oneOrMany []string

// UnmarshalJSON reads a string, a list of strings, or null.
func (o *oneOrMany) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		*o = make(oneOrMany, 1)
		return json.Unmarshal(data, &(*o)[0]) //nolint:wrapcheck // whatIsWrong reads it as it is
	}
	return json.Unmarshal(data, (*[]string)(o)) //nolint:wrapcheck // as above
}

const idLength = 36 // of the usual spelling of a UUID; uuid.Parse alone takes others too

// parseID reads a UUID; "" is the zero one.
func parseID(name, text string) (uuid.UUID, error) {
	if text == "" {
		return uuid.Nil, nil
	}
	id, err := uuid.Parse(text)
	if err != nil || len(text) != idLength {
		return uuid.Nil, problem.Refuse(problem.MalformedID, fmt.Sprintf("%s is %q, which is not a UUID.", name, shortened(text)))
	}
	return id, nil
}

// requireID is parseID of what must be there.
func requireID(name, text string) (uuid.UUID, error) {
	if text == "" {
		return uuid.Nil, missing(name)
	}
	return parseID(name, text)
}

func missing(name string) error {
	return &taskdb.Error{Code: taskdb.ErrMissingFields.Code, Message: taskdb.ErrMissingFields.Message, Detail: name + " is missing."}
}

// notAText is the refusal of a field that must be a JSON text.
func notAText(name string) error { return problem.Refuse(problem.Malformed, name+" must be a text.") }

func shortened(text string) string {
	const enough = 60
	if runes := []rune(text); len(runes) > enough {
		return string(runes[:enough]) + "..."
	}
	return text
}

// orNone passes a JSON null as a value that was not given.
func orNone(value json.RawMessage) json.RawMessage {
	if string(value) == "null" {
		return nil
	}
	return value
}
