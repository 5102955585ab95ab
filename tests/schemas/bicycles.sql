-- A maker of bicycles on PostgreSQL: schemas, domains, UUIDs made by the server, checks as PostgreSQL prints them.

CREATE EXTENSION IF NOT EXISTS "uuid-ossp";
CREATE DOMAIN "Label" varchar(50);
CREATE DOMAIN "Flag" boolean NOT NULL;
CREATE DOMAIN "Choice" boolean;
CREATE DOMAIN "Dial" varchar(25);
CREATE DOMAIN "Account" varchar(15) CONSTRAINT account_length CHECK (length(VALUE) >= 1);
CREATE SCHEMA people;
CREATE SCHEMA making;
CREATE SCHEMA buying;
CREATE SCHEMA selling;

CREATE TABLE people.party (
    party_id serial PRIMARY KEY,
    row_uuid uuid NOT NULL DEFAULT (uuid_generate_v1()),
    changed timestamp NOT NULL DEFAULT (now())
);
CREATE TABLE people.person (
    party_id int PRIMARY KEY REFERENCES people.party,
    kind char(2) NOT NULL,
    western_order "Choice" NOT NULL DEFAULT (false),
    title varchar(8),
    first_name "Label" NOT NULL,
    promotion int NOT NULL DEFAULT (0),
    survey xml,
    row_uuid uuid NOT NULL DEFAULT (uuid_generate_v1()),
    changed timestamp NOT NULL DEFAULT (now()),
    CONSTRAINT "CK_person_promotion" CHECK (promotion BETWEEN 0 AND 2),
    CONSTRAINT "CK_person_kind" CHECK (kind IS NULL OR upper(kind) IN ('SC', 'VC', 'IN'))
);
CREATE TABLE people.region (
    region_id serial PRIMARY KEY,
    code char(3) NOT NULL UNIQUE,
    only_one "Flag" DEFAULT (true),
    name "Label" NOT NULL,
    row_uuid uuid NOT NULL DEFAULT gen_random_uuid(),
    changed timestamp NOT NULL DEFAULT localtimestamp
);
CREATE TABLE people.address (
    address_id serial PRIMARY KEY,
    line varchar(60) NOT NULL,
    line2 varchar(60),
    region_id int NOT NULL REFERENCES people.region,
    location bytea,
    row_uuid uuid NOT NULL DEFAULT (uuid_generate_v4()),
    changed timestamp NOT NULL DEFAULT (now())
);
CREATE TABLE people.phone (
    party_id int NOT NULL REFERENCES people.person,
    number "Dial" NOT NULL,
    kind smallint NOT NULL CHECK (kind IN (1, 2, 3)),
    changed timestamp NOT NULL DEFAULT (now()),
    PRIMARY KEY (party_id, number, kind)
);
CREATE TABLE people.mail (
    party_id int NOT NULL REFERENCES people.person,
    mail_id serial,
    mail varchar(50) CONSTRAINT mail_sign CHECK (mail ~ '.@.'),
    row_uuid uuid NOT NULL DEFAULT (uuid_generate_v1()),
    PRIMARY KEY (party_id, mail_id)
);
CREATE TABLE people.worker (
    party_id int PRIMARY KEY REFERENCES people.person,
    born date NOT NULL,
    hired date NOT NULL,
    sex char(1) NOT NULL CHECK (upper(sex) IN ('M', 'F')),
    holiday smallint NOT NULL DEFAULT (0) CHECK (holiday BETWEEN -40 AND 240),
    node varchar DEFAULT '/',
    CONSTRAINT "CK_worker_born" CHECK (born BETWEEN '1930-01-01' AND now() - INTERVAL '18 years')
);
CREATE TABLE people.pay (
    party_id int NOT NULL,
    since timestamp NOT NULL,
    rate numeric NOT NULL,
    frequency smallint NOT NULL,
    PRIMARY KEY (party_id, since),
    CONSTRAINT "CK_pay_frequency" CHECK (frequency IN (1, 2)),
    CONSTRAINT "CK_pay_rate" CHECK (rate BETWEEN 6.50 AND 200.00)
);
CREATE TABLE people.shift (
    shift_id serial PRIMARY KEY,
    name "Label" NOT NULL,
    begins time NOT NULL,
    ends time NOT NULL,
    first_day date NOT NULL DEFAULT '2011-05-31'::date CHECK (first_day >= '1753-01-01'::date),
    UNIQUE (begins, ends)
);

CREATE TABLE making.unit (unit char(3) PRIMARY KEY, name "Label" NOT NULL, changed timestamp NOT NULL DEFAULT (now()));
CREATE TABLE making.culture (culture char(6) PRIMARY KEY, name "Label" NOT NULL);
CREATE TABLE making.model (
    model_id serial PRIMARY KEY,
    name "Label" NOT NULL,
    catalogue xml,
    instructions xml
);
CREATE TABLE making.product (
    product_id serial PRIMARY KEY,
    name "Label" NOT NULL,
    number varchar(25) NOT NULL,
    made "Flag" NOT NULL DEFAULT (true),
    stock smallint NOT NULL CONSTRAINT "CK_product_stock" CHECK (stock > 0),
    cost numeric NOT NULL,
    size_unit char(3) REFERENCES making.unit,
    weight decimal(8, 2),
    line char(2),
    grade char(2),
    model_id int REFERENCES making.model,
    sold_from timestamp NOT NULL,
    sold_to timestamp,
    row_uuid uuid NOT NULL DEFAULT (uuid_generate_v1()),
    changed timestamp NOT NULL DEFAULT (now()),
    CONSTRAINT "CK_product_cost" CHECK (cost >= 0.00),
    CONSTRAINT "CK_product_weight" CHECK (weight > 0.00),
    CONSTRAINT "CK_product_line" CHECK (upper(line) IN ('S', 'T', 'M', 'R') OR line IS NULL),
    CONSTRAINT "CK_product_grade" CHECK (grade IN ('L', 'M', 'H') OR grade IS NULL),
    CONSTRAINT "CK_product_sold" CHECK ((sold_to >= sold_from) OR (sold_to IS NULL))
);
CREATE UNIQUE INDEX product_number ON making.product (number) INCLUDE (name);
CREATE TABLE making.part (
    part_id serial PRIMARY KEY,
    assembly_id int REFERENCES making.product,
    component_id int NOT NULL REFERENCES making.product,
    since timestamp NOT NULL DEFAULT (now()),
    until timestamp,
    unit char(3) NOT NULL REFERENCES making.unit,
    level smallint NOT NULL,
    quantity decimal(8, 2) NOT NULL DEFAULT (1.00),
    CONSTRAINT "CK_part_until" CHECK ((until > since) OR (until IS NULL)),
    CONSTRAINT "CK_part_itself" CHECK (assembly_id <> component_id),
    CONSTRAINT "CK_part_level" CHECK (
        ((assembly_id IS NULL) AND (level = 0) AND (quantity = 1.00)) OR ((assembly_id IS NOT NULL) AND (level >= 1))
    ),
    CONSTRAINT "CK_part_quantity" CHECK (quantity >= 1.00)
);
CREATE TABLE making.paper (
    title varchar(50) NOT NULL,
    folder "Flag" NOT NULL DEFAULT (false),
    revision char(5) NOT NULL,
    status smallint NOT NULL CHECK (status BETWEEN 1 AND 3),
    summary text,
    body bytea,
    row_uuid uuid NOT NULL UNIQUE DEFAULT (uuid_generate_v1()),
    node varchar PRIMARY KEY DEFAULT '/'
);
CREATE TABLE making.product_culture (
    product_id int NOT NULL REFERENCES making.product,
    culture char(6) NOT NULL REFERENCES making.culture,
    text varchar(400) NOT NULL,
    "primary" "Flag" NOT NULL DEFAULT (false),
    PRIMARY KEY (product_id, culture)
);
CREATE TABLE making.movement (
    movement_id bigserial PRIMARY KEY,
    product_id int NOT NULL REFERENCES making.product,
    kind char(1) NOT NULL,
    moved timestamp NOT NULL DEFAULT (now()),
    CONSTRAINT "CK_movement_kind" CHECK (upper(kind) = ANY (ARRAY['W', 'S', 'P']))
);

CREATE TABLE buying.vendor (
    party_id int PRIMARY KEY REFERENCES people.party,
    account "Account" NOT NULL,
    rating smallint NOT NULL CHECK (rating BETWEEN 1 AND 5),
    preferred "Flag" NOT NULL DEFAULT (true),
    url varchar(1024)
);
CREATE TABLE buying.purchase (
    purchase_id serial PRIMARY KEY,
    revision smallint NOT NULL DEFAULT (0),
    vendor_id int NOT NULL REFERENCES buying.vendor,
    ordered timestamp NOT NULL DEFAULT (now()),
    shipped timestamp,
    subtotal numeric NOT NULL DEFAULT (0.00),
    tax numeric NOT NULL DEFAULT '0'::numeric,
    CONSTRAINT "CK_purchase_shipped" CHECK ((shipped >= ordered) OR (shipped IS NULL)),
    CONSTRAINT "CK_purchase_subtotal" CHECK (subtotal >= 0.00),
    CHECK (NOT (tax < 0.00))
);
CREATE TABLE selling.currency (currency char(3) PRIMARY KEY, name "Label" NOT NULL, changed timestamp DEFAULT (now()));
CREATE TABLE selling.rate (
    rate_id serial PRIMARY KEY,
    day timestamp NOT NULL,
    from_currency char(3) NOT NULL REFERENCES selling.currency,
    average numeric NOT NULL CHECK (average > 0::numeric),
    UNIQUE (day, from_currency)
);
CREATE TABLE selling.offer (
    offer_id serial PRIMARY KEY,
    discount numeric NOT NULL DEFAULT (0.00) CHECK (discount >= 0.00),
    least int NOT NULL DEFAULT (0) CHECK (least >= 0),
    most int CHECK (most IS NULL OR most >= 0),
    begins timestamp NOT NULL,
    ends timestamp NOT NULL CHECK (ends >= begins),
    code varchar(20) NOT NULL DEFAULT 'NONE'::character varying,
    CONSTRAINT offer_code CHECK (char_length(code) BETWEEN 2 AND 20 AND octet_length(code) <= 40)
);
CREATE VIEW selling.rates AS SELECT day, average FROM selling.rate;
CREATE MATERIALIZED VIEW selling.offers AS SELECT offer_id, code FROM selling.offer;
